"""Elbert in static shapes, so that a captured graph can run any texts.

The arithmetic and the tensors are those of engine.model; texts are described by tensors instead of lists.

On CUDA in half precision every text attends to itself through torch's varlen attention (FlashAttention); elsewhere
texts are padded to the longest length, one per row. Tested: the latter, and the former on fake CUDA tensors for shapes
and dtypes only.

Letters: T token rows of which the first few are real, N slots, L longest text, H hidden size, C labels.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from inspect import signature
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from earlybird.engine.adapters import adapt
from earlybird.engine.config import ModelConfig
from earlybird.engine.device.adapters import OwnDepth, side_by_side
from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import Heads

_APPROXIMATION = {"gelu": "none", "gelu_new": "tanh"}


class Tiles(NamedTuple):
    """Tile heights of matrix operations in deterministic mode.

    A GEMM or a reduction picks its kernel by its shape, so only equal shapes give equal bits: token rows and slots of
    every tier are multiples of these heights.

    `batched`: all tiles of a product run in one launch, which fills a card. That neither the number of tiles nor a
    tile's place changes bits is likely but not guaranteed, so engine.device.tiling compares. Otherwise one launch per
    tile.
    """

    tokens: int
    slots: int
    batched: bool = False


class Spread(NamedTuple):
    """Assignment of token rows to slots.

    Every index is in range, also for empty slots and for rows without a text.
    """

    real: Tensor  # (T,) bool: the row belongs to a text
    slot: Tensor  # (T,) int64
    place: Tensor  # (T,) int64, position within the text, from 0
    starts: Tensor  # (N,) int64, first row of the slot's text
    lengths: Tensor  # (N,) int64, 0 for an empty slot
    offsets: Tensor  # (N + 1,) int32: 0, then every text's end; empty slots repeat the last end
    depth: Tensor  # (N,) int64, passes including this one; never rises from slot to slot; 0 when empty


class StaticElbert:
    """Embed, advance and classify over a Spread; immutable, shared by runners on one device.

    `tensors` are named as in engine.weights.shapes, lie on the device and set the dtype. Exits are computed in float32
    at least. `tiles` None: matrices are not split. `longest` bounds a text's tokens, None: all positions; it is fixed
    in a captured graph, and the cost of attention grows with it.
    """

    def __init__(
        self,
        config: ModelConfig,
        tensors: Mapping[str, Tensor],
        temperature: float = 1.0,
        tiles: Tiles | None = None,
        longest: int | None = None,
    ) -> None:
        self.config, self.temperature, self.tiles = config, temperature, tiles
        self.longest = longest or config.max_positions
        self.dtype, self.where = tensors["embedding.words"].dtype, tensors["embedding.words"].device
        self.exit_dtype = torch.promote_types(self.dtype, torch.float32)
        self.varlen = self.where.type == "cuda" and self.dtype in (torch.float16, torch.bfloat16)
        if self.varlen:
            _require_varlen()
        self._tensors = {name: tensor.contiguous() for name, tensor in tensors.items()} | side_by_side(config, tensors)
        groups = (torch.full((), config.group(number), device=self.where) for number in range(config.layers))
        self._groups = torch.stack(list(groups))  # (D,) int64
        self._classifier = self._stacked("classifier", config.classifiers == "per_layer")
        learned = config.learned_exits
        self._learned_exit = None if learned == "none" else self._stacked("learned_exit", learned == "per_layer")

    def _stacked(self, name: str, per_layer: bool) -> tuple[Tensor, Tensor]:
        """Stack a head's weights (1 or layers, out, H) and biases (1 or layers, out)."""
        numbers = range(self.config.layers if per_layer else 1)
        weights, biases = (
            torch.stack([self._tensors[f"{name}.{number}.{part}"] for number in numbers]).to(self.exit_dtype)
            for part in ("weight", "bias")
        )
        return weights, biases

    def embed(self, token_ids: Tensor, places: Tensor) -> Tensor:
        """Compute the states before the first pass: (T,) and (T,) int64 -> (T, H)."""
        words = self._tensors["embedding.words"].index_select(0, token_ids)
        positions = self._tensors["embedding.positions"].index_select(0, places)
        if self.config.embedding == "norm_then_project":
            return self._linear("embedding.project", self._norm("embedding.norm", words + positions))
        return self._norm("embedding.norm", self._linear("embedding.project", words) + positions)

    def advance(self, hidden: Tensor, spread: Spread) -> Tensor:
        """Run one pass, post-norm: (T, H) -> (T, H).

        Rows without a text return arbitrary values. With several groups every row makes the pass of each and keeps its
        own: shapes are static, so the rows of a depth are no block. That costs as many passes as there are groups.
        """
        names = [self.config.group_name(group) for group in range(self.config.groups)]
        found = [self._pass(name, hidden, spread) for name in names]
        if len(found) == 1:
            return found[0]
        group = self._groups.index_select(0, self._number(spread))  # (T,)
        return torch.stack(found, dim=1)[torch.arange(len(group), device=self.where), group]

    def _pass(self, layer: str, hidden: Tensor, spread: Spread) -> Tensor:
        placement = self.config.adapters.placement if self.config.adapters else None
        attended = self._linear(f"{layer}.attended", self._attention(layer, hidden, spread))
        if placement in ("attention", "sequential"):
            attended = attended + self.adapted(hidden if placement == "attention" else attended, spread)
        hidden = self._norm(f"{layer}.attended_norm", hidden + attended)
        wide = F.gelu(self._linear(f"{layer}.widen", hidden), approximate=_APPROXIMATION[self.config.activation])
        narrow = self._linear(f"{layer}.narrow", wide)
        if placement == "ffn":
            narrow = narrow + self.adapted(hidden, spread)
        return self._norm(f"{layer}.norm", narrow + hidden)

    def _number(self, spread: Spread) -> Tensor:
        """Return each row's pass, counted from 0: (T,) int64."""
        return (spread.depth - 1).clamp_min(0).index_select(0, spread.slot)

    def classify(self, hidden: Tensor, spread: Spread) -> Heads:
        """Compute the heads (N, ...) of texts after `spread.depth` passes; arbitrary for empty slots."""
        pooled = self._pooled(hidden, spread).to(self.exit_dtype)
        logits = self._head(self._classifier, pooled, spread.depth) / self.temperature
        if self._learned_exit is None:
            return Heads(logits)
        return Heads(logits, self._head(self._learned_exit, pooled, spread.depth)[:, 0].sigmoid())

    def _head(self, head: tuple[Tensor, Tensor], pooled: Tensor, depth: Tensor) -> Tensor:
        """Apply the shared head or that of each slot's depth: (N, H) -> (N, out)."""
        number = torch.zeros_like(depth) if len(head[0]) == 1 else (depth - 1).clamp_min(0)
        weight, bias = (part.index_select(0, number) for part in head)
        # A product and a sum instead of a GEMM avoid TF32 whatever the process's settings.
        tiles = zip(self._slot_tiles(pooled), self._slot_tiles(weight), strict=True)
        return _joined([(p[:, None] * w).sum(dim=-1) for p, w in tiles]) + bias

    def _attention(self, layer: str, hidden: Tensor, spread: Spread) -> Tensor:
        heads, size = self.config.heads, self.config.hidden_size // self.config.heads
        triples = self._linear(f"{layer}.query_key_value", hidden).view(-1, 3, heads, size)
        query, key, value = triples.unbind(dim=1)  # each (T, heads, size)
        return self._attend(query, key, value, spread).reshape(-1, heads * size)

    def adapted(self, states: Tensor, spread: Spread) -> Tensor:
        """Compute the adapters' addend: (T, H) -> (T, H)."""
        assert self.config.adapters is not None
        number = self._number(spread)

        def attend(*parts: Tensor) -> Tensor:
            query, key, value = (part[:, None].contiguous() for part in parts)  # one head
            return self._attend(query, key, value, spread)[:, 0]

        maps = OwnDepth(self._tensors, number, self.config.layer_norm_eps, self._linear)
        return adapt(self.config.adapters, maps, states, attend)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, spread: Spread) -> Tensor:
        """Compute attention within each text: (T, heads, size) -> (T, heads, size)."""
        return (self._varlen if self.varlen else self._laid_out)(query, key, value, spread)

    def _varlen(self, query: Tensor, key: Tensor, value: Tensor, spread: Spread) -> Tensor:
        """Compute attention with torch's varlen kernel (FlashAttention).

        A graph replays the bounds of its capture, so the longest text is the longest allowed, not the table's. The step
        computes the offsets, which are read from the device at every replay. num_splits=1: a text's bits do not depend
        on how other texts fill the card.
        """
        from torch.nn.attention.varlen import varlen_attn

        longest, splits = self.longest, 1 if self.tiles else None
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # cuDNN's plan would depend on version and card
            out = varlen_attn(query, key, value, spread.offsets, spread.offsets, longest, longest, num_splits=splits)
        assert isinstance(out, Tensor), "attention with auxiliary output. This is a bug."
        return out

    def _laid_out(self, query: Tensor, key: Tensor, value: Tensor, spread: Spread) -> Tensor:
        """Compute attention with one text per row of length L.

        A text's bits then depend on that text alone, at N L^2 scores instead of a mask's T^2.
        """
        places = torch.arange(self.longest, device=query.device)  # (L,)
        rows = (spread.starts[:, None] + places).clamp_max(query.shape[0] - 1)  # (N, L)
        heard = places < spread.lengths.clamp_min(1)[:, None]  # (N, L); an empty slot attends to one row, to avoid NaN

        def lay(states: Tensor) -> Tensor:
            return states[rows].transpose(1, 2)  # (N, heads, L, size)

        mixed = F.scaled_dot_product_attention(lay(query), lay(key), lay(value), attn_mask=heard[:, None, None])
        return mixed[spread.slot, :, spread.place]  # (T, heads, size)

    def _pooled(self, hidden: Tensor, spread: Spread) -> Tensor:
        """Pool each slot's rows into one: (T, H) -> (N, H)."""
        if self.config.pool == "first":
            return self._linear("pooler", hidden.index_select(0, spread.starts), self.tiles and self.tiles.slots).tanh()
        # One thread per slot and column adds a text's rows in order, without atomics or other texts' rows. Unsafe means
        # unchecked: checking the offsets would wait for the device.
        total = torch.segment_reduce(
            hidden.to(self.exit_dtype), "sum", offsets=spread.offsets.long(), axis=0, unsafe=True
        )
        return total / spread.lengths.clamp_min(1)[:, None]

    def _slot_tiles(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Split rows (N, ...) into tiles that are reduced separately, or return them whole."""
        return torch.split(rows, self.tiles.slots) if self.tiles and not self.tiles.batched else (rows,)

    def _linear(self, name: str, rows: Tensor, height: int | None = None) -> Tensor:
        """Apply a linear map (R, I) -> (R, O) in tiles of `height`.

        None: the height of token tiles.
        """
        weight, bias = self._tensors[f"{name}.weight"], self._tensors.get(f"{name}.bias")
        if self.tiles is None:
            return F.linear(rows, weight, bias)
        height = height or self.tiles.tokens
        if not self.tiles.batched:
            return _joined([F.linear(tile, weight, bias) for tile in torch.split(rows, height)])
        tiles = rows.view(-1, height, rows.shape[1])
        weights = weight.t().expand(len(tiles), -1, -1)
        product = torch.bmm(tiles, weights) if bias is None else torch.baddbmm(bias, tiles, weights)
        return product.view(rows.shape[0], -1)

    def _norm(self, name: str, states: Tensor) -> Tensor:
        weight, bias = self._tensors[f"{name}.weight"], self._tensors[f"{name}.bias"]
        return F.layer_norm(states, weight.shape, weight, bias, self.config.layer_norm_eps)


def _joined(tiles: list[Tensor]) -> Tensor:
    return tiles[0] if len(tiles) == 1 else torch.cat(tiles)


def _require_varlen() -> None:
    found = find_spec("torch.nn.attention.varlen") is not None
    if found:
        from torch.nn.attention.varlen import varlen_attn

        found = "num_splits" in signature(varlen_attn).parameters
    if not found:
        raise ConfigError(
            f"runner: resident in half precision needs torch.nn.attention.varlen with num_splits, as in torch 2.15, "
            f"was {torch.__version__}"
        )
