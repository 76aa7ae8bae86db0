"""Trainable model: padded batches, heads after every pass, tensors named as in engine.weights.shapes.

Letters: S texts, L longest text, H hidden size, E embedding size, C classes, D depth.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from earlybird.engine.adapters import OneDepth, adapt, adapter_shapes
from earlybird.engine.config import ModelConfig
from earlybird.engine.exits.policy import Heads
from earlybird.engine.weights import shapes

APPROXIMATION = {"gelu": "none", "gelu_new": "tanh"}


class Batch(NamedTuple):
    """Texts padded to the longest."""

    ids: Tensor  # (S, L) int64
    real: Tensor  # (S, L) bool: not padding

    @classmethod
    def of(cls, token_ids: Sequence[Sequence[int]]) -> "Batch":
        """Pad token ids with 0."""
        lengths = torch.tensor([len(ids) for ids in token_ids])
        width = int(lengths.max())
        ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in token_ids])
        return cls(ids, torch.arange(width) < lengths[:, None])


class Network(nn.Module):
    """Elbert with gradients.

    `forward` returns the heads of every depth, uncalibrated; dropout acts in train() only.
    """

    def __init__(self, config: ModelConfig, tensors: Mapping[str, Tensor], dropout: float = 0.0) -> None:
        """Copy `tensors`, named as in weights.shapes(config), as float32."""
        super().__init__()
        self.config, self.dropout = config, dropout
        expected = shapes(config)
        assert tensors.keys() == expected.keys(), f"tensors {sorted(tensors.keys() ^ expected.keys())}. This is a bug."
        for name in expected:
            holder: nn.Module = self
            *path, leaf = name.split(".")
            for part in path:
                if not hasattr(holder, part):
                    holder.add_module(part, nn.Module())
                holder = getattr(holder, part)
            holder.register_parameter(leaf, nn.Parameter(tensors[name].detach().float().clone()))
        self._by_name = dict(self.named_parameters())
        names = adapter_shapes(config.adapters, config.hidden_size) if config.adapters else ()
        self._adapters = [
            OneDepth({name: self._by_name[f"adapter.{depth}.{name}"] for name in names}, config.layer_norm_eps)
            for depth in range(config.layers)
        ]

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights, detached, by the names of weights.shapes."""
        return {name: parameter.detach().clone() for name, parameter in self._by_name.items()}

    def forward(self, batch: Batch, depth: int | None = None) -> list[Heads]:
        """Return the heads after each of the first `depth` passes (None: all)."""
        return [self.heads(pooled, number) for number, pooled in enumerate(self.pooled_states(batch, depth))]

    def pooled_states(self, batch: Batch, depth: int | None = None) -> list[Tensor]:
        """Return the heads' inputs, (S, H) after each pass."""
        hidden = self.embed(batch)
        states = []
        for number in range(depth or self.config.layers):
            hidden = self._advance(hidden, batch.real, number)
            states.append(self._pool(hidden, batch.real))
        return states

    def heads(self, pooled: Tensor, number: int) -> Heads:
        """Compute the heads of pass `number`, counted from 0, from states (S, H).

        Returns logits (S, C) and certainty (S,) or None.
        """
        pooled = self._dropped(pooled)
        classifier = number if self.config.classifiers == "per_layer" else 0
        logits = self._linear(f"classifier.{classifier}", pooled)
        if self.config.learned_exits == "none":
            return Heads(logits)
        learned = number if self.config.learned_exits == "per_layer" else 0
        return Heads(logits, self._linear(f"learned_exit.{learned}", pooled)[:, 0].sigmoid())

    def embed(self, batch: Batch) -> Tensor:
        """Compute the states before the first pass, (S, L, H)."""
        words = self._by_name["embedding.words"][batch.ids]
        positions = self._by_name["embedding.positions"][: batch.ids.shape[1]]
        if self.config.embedding == "norm_then_project":
            normed = self._dropped(self._norm("embedding.norm", words + positions))
            return self._linear("embedding.project", normed)
        return self._dropped(self._norm("embedding.norm", self._linear("embedding.project", words) + positions))

    def _advance(self, hidden: Tensor, real: Tensor, number: int) -> Tensor:
        placement = self.config.adapters.placement if self.config.adapters else None
        layer = self.config.group_name(self.config.group(number))
        attended = self._dropped(self._linear(f"{layer}.attended", self._attention(hidden, real, layer)))
        if placement == "attention":
            attended = attended + self._adapt(hidden, real, number)
        elif placement == "sequential":
            attended = attended + self._adapt(attended, real, number)
        hidden = self._norm(f"{layer}.attended_norm", hidden + attended)
        wide = F.gelu(self._linear(f"{layer}.widen", hidden), approximate=APPROXIMATION[self.config.activation])
        narrow = self._dropped(self._linear(f"{layer}.narrow", wide))
        if placement == "ffn":
            narrow = narrow + self._adapt(hidden, real, number)
        return self._norm(f"{layer}.norm", hidden + narrow)

    def _attention(self, hidden: Tensor, real: Tensor, layer: str) -> Tensor:
        texts, width, size = hidden.shape
        heads = self.config.heads
        triples = self._linear(f"{layer}.query_key_value", hidden).view(texts, width, 3, heads, size // heads)
        query, key, value = triples.permute(2, 0, 3, 1, 4)  # each (S, heads, L, H / heads)
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None, None], dropout_p=dropout)
        return mixed.transpose(1, 2).reshape(texts, width, size)

    def _adapt(self, states: Tensor, real: Tensor, number: int) -> Tensor:
        assert self.config.adapters is not None

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=real[:, None])

        return adapt(self.config.adapters, self._adapters[number], states, attend)

    def _pool(self, hidden: Tensor, real: Tensor) -> Tensor:
        if self.config.pool == "first":
            return self._linear("pooler", hidden[:, 0]).tanh()
        return (hidden * real[:, :, None]).sum(dim=1) / real.sum(dim=1, keepdim=True)

    def _dropped(self, states: Tensor) -> Tensor:
        return F.dropout(states, self.dropout, self.training)

    def _linear(self, name: str, rows: Tensor) -> Tensor:
        return F.linear(rows, self._by_name[f"{name}.weight"], self._by_name.get(f"{name}.bias"))

    def _norm(self, name: str, states: Tensor) -> Tensor:
        weight, bias = self._by_name[f"{name}.weight"], self._by_name[f"{name}.bias"]
        return F.layer_norm(states, weight.shape, weight, bias, self.config.layer_norm_eps)


def initial_tensors(config: ModelConfig, generator: torch.Generator, std: float = 0.02) -> dict[str, Tensor]:
    """Draw random weights for all tensors of a model.

    Normal with standard deviation `std`; norms 1 and 0, biases 0, adapters' last map 0 (so that an adapter initially
    adds nothing).
    """
    found = {}
    for name, shape in shapes(config).items():
        if name.endswith("norm.weight"):
            found[name] = torch.ones(shape)
        elif name.endswith(".bias") or (name.startswith("adapter.") and ".up." in name):
            found[name] = torch.zeros(shape)
        else:
            found[name] = torch.randn(shape, generator=generator) * std
    return found
