"""Peers on transformers' own layer in forms suited to a card.

They use large batches, compilation, and no padding. All of them also run on the CPU, where the tests run them.

Tested on the CPU; not yet run on a CUDA device.
"""

import copy
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from earlybird.engine.bench.peers_hf import Eager, HuggingFace, row
from earlybird.engine.bench.row import Build, PeerResult, RowResult, Setting, batches
from earlybird.engine.bench.workload import BenchText

LARGE = 256  # texts per batch
COMPILER = "inductor"
_ATTENTION = "texts_end_to_end"  # our name in transformers' table of attentions


class Compiled(Eager):
    """The plain model, compiled for batches of any size."""

    def __init__(self, setting: Setting, slots: int) -> None:
        super().__init__(setting, slots)
        self._compiled = torch.compile(super().whole, dynamic=True, backend=COMPILER)

    def whole(self, ids: Tensor, mask: Tensor | None) -> Tensor:
        return self._compiled(ids, mask)


class Unpadded(HuggingFace):
    """transformers' layer over texts that lie end to end, at full depth.

    Each text attends to itself; there is no padding.
    """

    def __init__(self, setting: Setting, slots: int, compiled: bool) -> None:
        super().__init__(setting, slots)
        from transformers import AttentionInterface

        AttentionInterface.register(_ATTENTION, _attend)
        self._model = copy.deepcopy(setting.models.theirs).to(setting.device, getattr(torch, self.dtype))
        self._model.config._attn_implementation = _ATTENTION
        self._layer = self._model.albert.encoder.albert_layer_groups[0].albert_layers[0]
        self._whole = torch.compile(self.whole, dynamic=True, backend=COMPILER) if compiled else self.whole

    @torch.inference_mode()
    def run(self, texts: Sequence[BenchText]) -> Sequence[RowResult]:
        found: list[PeerResult] = []
        for batch in batches(texts, self.slots):
            ids = torch.tensor([token for text in batch for token in text.ids])
            places = torch.cat([torch.arange(len(text.ids)) for text in batch])
            offsets = torch.tensor([0, *accumulate(len(text.ids) for text in batch)], dtype=torch.int32)
            found += self.deepest(batch, self._whole(*(part.to(self._device) for part in (ids, places, offsets))))
        return found

    def whole(self, ids: Tensor, places: Tensor, offsets: Tensor) -> Tensor:
        """Compute logits (S, C) from packed texts.

        Ids and places in their texts (T,), offsets (S + 1,).
        """
        albert = self._model.albert
        embedded = albert.embeddings(ids[None], position_ids=places[None])
        hidden = albert.encoder.embedding_hidden_mapping_in(embedded)
        for _ in range(self._config.layers):
            hidden = self._layer(hidden, None, offsets=offsets, longest=self._config.max_positions)
        return self.answers(hidden[0].index_select(0, offsets[:-1].long()))


def _attend(
    module: Any,  # noqa: ARG001
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,  # noqa: ARG001
    *,
    offsets: Tensor,
    longest: int,
    **_: Any,
) -> tuple[Tensor, None]:
    """Compute attention in transformers' calling convention.

    Each of query, key and value is (1, heads, T, size); the result is (1, T, heads, size).
    """
    if query.is_cuda:
        from torch.nn.attention.varlen import varlen_attn

        query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))  # each (T, heads, size)
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # the kernel of our own loop
            mixed = varlen_attn(query, key, value, offsets, offsets, longest, longest)
        assert isinstance(mixed, Tensor), "attention with auxiliary output. This is a bug."
        return mixed[None], None
    place = torch.arange(query.shape[2])
    text = torch.searchsorted(offsets, place, right=True)  # (T,)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=text[:, None] == text)
    return mixed.transpose(1, 2), None


ROWS: dict[str, Build] = {
    f"hf_batch{LARGE}": row(Eager, LARGE),
    f"hf_batch{LARGE}_compiled": row(Compiled, LARGE),
    f"hf_unpadded{LARGE}": row(Unpadded, LARGE, False),
    f"hf_unpadded{LARGE}_compiled": row(Unpadded, LARGE, True),
}
