"""Elbert: an ALBERT layer applied repeatedly, with a classifier output after every pass.

One layer is shared by all passes, or every group of passes has its own (ALBERT's num_hidden_groups). The states of all
texts lie end to end in one matrix without padding; `lengths` says where each text ends.
Source: ALBERT, arXiv 1909.11942; ELBERT, arXiv 2107.00175.

Letters: T tokens over all texts, S texts (slots), t tokens of one text, E embedding size, H hidden size, C labels.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  (the usual name in torch code)
from torch import Tensor

from earlybird.engine.adapters import OneDepth, adapt, adapter_shapes
from earlybird.engine.config import ModelConfig
from earlybird.engine.exits.policy import Heads
from earlybird.engine.slots.cpu_linear import Linear, LinearFactory, linears


class Layer(NamedTuple):
    """The maps of one group's layer."""

    name: str  # that its tensors' names begin with
    query_key_value: Linear  # H -> 3 H
    attended: Linear  # H -> H
    widen: Linear  # H -> ffn
    narrow: Linear  # ffn -> H


class Elbert:
    """Embed, advance and classify over token-packed states; immutable, shared by engine threads.

    `tensors` are named as in engine.weights.shapes and set the dtype. Exits are computed in float32 at least.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, Tensor],
        temperature: float = 1.0,
        factory: LinearFactory | None = None,  # None: the fast linears of this CPU
        layer_factory: LinearFactory | None = None,  # for the layers' four maps; None: same as `factory`
    ) -> None:
        self.config = config
        self.temperature = temperature
        self.tensors = tensors
        self.words = tensors["embedding.words"]  # (V, E)
        self.positions = tensors["embedding.positions"]  # (P, E), or (P, H) when projected first

        prepare = factory or linears(deterministic=False)
        layer = layer_factory or prepare

        def linear(prepare: LinearFactory, name: str, activation: str | None = None) -> Linear:
            return prepare(tensors[f"{name}.weight"], tensors.get(f"{name}.bias"), activation)

        self.project = linear(prepare, "embedding.project")  # E -> H
        self._filled = layer.filled
        self.layers = [
            Layer(
                name,
                query_key_value=linear(layer, f"{name}.query_key_value"),
                attended=linear(layer, f"{name}.attended"),
                widen=linear(layer, f"{name}.widen", config.activation),
                narrow=linear(layer, f"{name}.narrow"),
            )
            for name in map(config.group_name, range(config.groups))
        ]
        self.pooler = linear(prepare, "pooler") if config.pool == "first" else None
        self.exit_dtype = torch.promote_types(self.dtype, torch.float32)

        def heads(name: str, count: int) -> list[Linear]:
            wide = [
                [tensors[f"{name}.{i}.{part}"].to(self.exit_dtype) for part in ("weight", "bias")] for i in range(count)
            ]
            return [prepare(weight, bias, None) for weight, bias in wide]

        self.classifiers = heads("classifier", 1 if config.classifiers == "shared" else config.layers)
        learned = {"none": 0, "shared": 1, "per_layer": config.layers}[config.learned_exits]
        self.learned_exits = heads("learned_exit", learned)
        names = adapter_shapes(config.adapters, config.hidden_size) if config.adapters else ()
        self.adapters = [
            OneDepth({name: tensors[f"adapter.{depth}.{name}"] for name in names}, config.layer_norm_eps)
            for depth in range(config.layers)
        ]

    @property
    def dtype(self) -> torch.dtype:
        return self.words.dtype

    @property
    def device(self) -> torch.device:
        return self.words.device

    @torch.inference_mode()
    def embed(self, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Compute the states before the first pass: token_ids (T,) int64 -> (T, H)."""
        words = self.words[token_ids]  # (T, E)
        positions = torch.cat([self.positions[:length] for length in lengths])  # (T, E) or (T, H)
        if self.config.embedding == "norm_then_project":
            return self.project(self._norm("embedding.norm", words + positions))
        return self._norm("embedding.norm", self.project(words) + positions)

    @torch.inference_mode()
    def advance(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        """Run one pass, post-norm: hidden (T, H) -> (T, H).

        `depths` (S,), in blocks of equal depth, select the layers of models with several groups, and the adapters.
        """
        found, text, row = list[Tensor](), 0, 0
        for layer, block in groupby(depths, self.layer):
            several = list(block)
            sizes = lengths[text : text + len(several)]
            n_tokens = sum(sizes)
            found.append(self._pass(layer, hidden[row : row + n_tokens], sizes, several))
            text, row = text + len(several), row + n_tokens
        return found[0] if len(found) == 1 else torch.cat(found)

    def layer(self, depth: int) -> Layer:
        """Return the layer of a pass, counted from 1."""
        return self.layers[self.config.group(depth - 1)]

    def _pass(self, layer: Layer, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        n_tokens = len(hidden)
        spare = hidden.new_zeros(self._filled(n_tokens) - n_tokens, self.config.hidden_size)
        hidden = torch.cat([hidden, spare])  # padded once for all four maps; these rows affect no text
        placement = self.config.adapters.placement if self.config.adapters else None
        attended = layer.attended(self._attention(layer, hidden, lengths, spare))
        if placement in ("attention", "sequential"):
            source = hidden if placement == "attention" else attended
            attended[:n_tokens] += self._adapted(source[:n_tokens], lengths, depths)
        hidden = self._norm(f"{layer.name}.attended_norm", attended.add_(hidden))
        narrow = layer.narrow(layer.widen(hidden))
        if placement == "ffn":
            narrow[:n_tokens] += self._adapted(hidden[:n_tokens], lengths, depths)
        return self._norm(f"{layer.name}.norm", narrow.add_(hidden))[:n_tokens]

    @torch.inference_mode()
    def classify(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Heads:
        """Compute the heads of all texts from hidden (T, H) and `depths` (S,).

        `depths` are the passes made per text, in blocks of equal depth. Returns logits (S, C), divided by the
        temperature, and certainty (S,); float32, or float64 for a float64 model.
        """
        pooled = self._pooled(hidden, lengths).to(self.exit_dtype)  # (S, H)
        logits = _by_depth(self.classifiers, pooled, depths) / self.temperature
        if not self.learned_exits:
            return Heads(logits)
        return Heads(logits, _by_depth(self.learned_exits, pooled, depths)[:, 0].sigmoid())

    def _attention(self, layer: Layer, hidden: Tensor, lengths: Sequence[int], spare: Tensor) -> Tensor:
        """Apply self-attention within each text: (T + spare, H) -> (T + spare, H)."""
        heads, size = self.config.heads, self.config.hidden_size // self.config.heads
        triples = layer.query_key_value(hidden)[: len(hidden) - len(spare)].view(1, -1, 3, heads, size)
        parts = triples.permute(2, 0, 3, 1, 4).unbind()
        query, key, value = (torch.split(part, list(lengths), dim=2) for part in parts)
        attended = [
            F.scaled_dot_product_attention(*text).transpose(1, 2)  # (1, t, heads, size)
            for text in zip(query, key, value, strict=True)  # each (1, heads, t, size)
        ]
        return torch.cat([*attended, spare.view(1, -1, heads, size)], dim=1).view(-1, heads * size)

    def _adapted(self, states: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        """Compute the adapters' addend, text by text: (T, H) -> (T, H).

        Each map sees the rows of one text only, so a text's bits do not depend on its neighbours.
        """
        config = self.config.adapters
        assert config is not None

        def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(query[None], key[None], value[None])[0]

        texts = zip(torch.split(states, list(lengths)), depths, strict=True)
        return torch.cat([adapt(config, self.adapters[depth - 1], text, attend) for text, depth in texts])

    def _pooled(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """Pool each text's rows into one: (T, H) -> (S, H)."""
        starts = torch.tensor([0, *accumulate(lengths)])[:-1]  # (S,)
        if self.pooler is not None:
            return self.pooler(hidden[starts]).tanh()
        # Rows are added one by one, independent of other texts, so a text's bits depend on that text alone.
        return F.embedding_bag(torch.arange(len(hidden)), hidden.to(self.exit_dtype), starts, mode="mean")

    def _norm(self, name: str, states: Tensor) -> Tensor:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return F.layer_norm(states, weight.shape, weight, bias, self.config.layer_norm_eps)


def _by_depth(heads: Sequence[Linear], pooled: Tensor, depths: Sequence[int]) -> Tensor:
    """Apply the shared head, or one head per depth: (S, H) -> (S, out).

    `pooled` is in blocks of rows of equal depth.
    """
    if len(heads) == 1:
        return heads[0](pooled)
    rows = torch.split(pooled, [len(list(block)) for _, block in groupby(depths)])
    return torch.cat([heads[depth - 1](block) for (depth, _), block in zip(groupby(depths), rows, strict=True)])
