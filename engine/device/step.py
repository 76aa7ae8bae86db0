"""One resident-loop step in static shapes, captured once and replayed.

Nothing in it reads a value on the host, indexes by a mask or has a shape that depends on values, and every tensor that
it keeps stays at its address.

A step compacts the slots of the previous one, admits from the queue, advances every text by one layer, writes the
results of exiting texts into the result ring, and leaves the rest for the next step.

Letters: N slots, T token rows (of a tier, or of the table that all tiers share), R queue entries, result rows and
seats, Q queued tokens, H hidden size, C labels. A seat is a text's own number, from its queueing until its result is
read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from earlybird.engine.device.layer import Spread, StaticElbert
from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.ladder import Ladder
from earlybird.engine.exits.policy import Decision, ExitPolicy, Heads, State, at_last_layer, at_limit, classifier_output


class Tier(NamedTuple):
    """A step size, captured once: a number of texts with a number of tokens together."""

    slots: int
    tokens: int
    stride: int = 1  # steps launched per host read


@dataclass(frozen=True)
class Table:
    """All state that outlives a step, at fixed addresses; tiers use its first rows."""

    # Rings, written by the host (see engine.device.loop):
    tail: Tensor  # (1,) int64, entries published so far
    queue: Tensor  # (R, 4) int64: first token in the token ring, number of tokens, seat, recorded rung or -1
    behind: Tensor  # (1,) int64: texts that wait outside of the queue, for policies that follow the load
    queue_tokens: Tensor  # (Q,) int64
    limits: Tensor  # (R,) int64, by seat: passes after which a text exits in any case; may change any time
    # Rings, written by the step; the last row of each takes values that are not read:
    result_logits: Tensor  # (R + 1, C) exit dtype
    result_facts: Tensor  # (R + 1, 4) int64: seat, exit layer, reason code, rung
    counts: Tensor  # (2,) int64 totals: entries admitted, texts finished
    # Slots; an empty slot has length 0 and `staying` False:
    hidden: Tensor  # (T, H)
    lengths: Tensor  # (N,) int64
    depth: Tensor  # (N,) int64, passes made
    seat: Tensor  # (N,) int64
    staying: Tensor  # (N,) bool
    level: Tensor  # (1,) int64: the present rung of a load-following policy
    memory: State  # of the exit policy, each (N, ...)

    @classmethod
    def empty(cls, model: StaticElbert, policy: ExitPolicy, tiers: tuple[Tier, ...], entries: int) -> "Table":
        """Create an empty table for these tiers, with `entries` rows in its rings.

        The token queue has room for twice the largest tier's tokens, and for any text.
        """
        slots = max(tier.slots for tier in tiers)
        tokens = max(rows(model, tier) for tier in tiers)

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=model.where)

        return cls(
            tail=zeros(1),
            queue=zeros(entries, 4),
            behind=zeros(1),
            queue_tokens=zeros(max(2 * tokens, 32 * entries)),
            limits=zeros(entries) + model.config.layers,
            result_logits=zeros(entries + 1, model.config.n_labels, dtype=model.exit_dtype),
            result_facts=zeros(entries + 1, 4),
            counts=zeros(2),
            hidden=zeros(tokens, model.config.hidden_size, dtype=model.dtype),
            lengths=zeros(slots),
            depth=zeros(slots),
            seat=zeros(slots),
            staying=zeros(slots, dtype=torch.bool),
            level=zeros(1),
            memory=policy.initial_state(slots, zeros(0, model.config.n_labels, dtype=model.exit_dtype)),
        )

    def addresses(self) -> tuple[int, ...]:
        """Return the addresses of all buffers, which a captured graph has fixed."""
        fields = (getattr(self, name) for name in self.__dataclass_fields__ if name != "memory")
        return tuple(each.data_ptr() for each in (*fields, *self.memory))


def checked_tiers(tiers: Sequence[Tier]) -> tuple[Tier, ...]:
    """Return tiers that ascend; raises ConfigError for others."""
    if not tiers:
        raise ConfigError("tiers: at least one required")
    for tier in tiers:
        if min(tier) < 1:
            raise ConfigError(f"tiers: at least 1 slot, 1 token and 1 step required, was {tuple(tier)}")
    for small, large in pairwise(tiers):
        if small.slots > large.slots or small.tokens >= large.tokens:
            raise ConfigError(f"tiers: from small to large required, was {tuple(small)} before {tuple(large)}")
    return tuple(tiers)


def rows(model: StaticElbert, tier: Tier) -> int:
    """Return a tier's token rows, in whole tiles, with room for any single text."""
    wanted = max(tier.tokens, model.longest)
    return wanted + -wanted % model.tiles.tokens if model.tiles else wanted


class Seating(NamedTuple):
    """Slot assignment of one step: staying texts in order, then admitted ones.

    Each tensor is (N,) of the tier.
    """

    source: Tensor  # int64, previous slot
    stayed: Tensor  # bool
    active: Tensor  # bool: stayed or admitted
    entry: Tensor  # int64, queue entry of a newly admitted text
    seat: Tensor  # int64
    lengths: Tensor  # int64, 0 where not active


class CapturedStep:
    """One pass for one tier over the shared table.

    A call runs it, returns nothing and waits for nothing.
    """

    def __init__(self, model: StaticElbert, policy: ExitPolicy, table: Table, tier: Tier) -> None:
        if model.tiles and tier.slots % model.tiles.slots:
            raise ConfigError(f"tiers: multiples of {model.tiles.slots} slots required, was {tier.slots}")
        self._model, self._policy, self._table, self._tier = model, policy, table, tier
        self._ladder = policy if isinstance(policy, Ladder) else None
        self._rows = rows(model, tier)
        self._places = torch.arange(len(table.lengths), device=model.where)
        self._tokens = torch.arange(self._rows, device=model.where)

    @torch.no_grad()
    def __call__(self) -> None:
        seating = self._seat()
        depth = _unless_new(self._table.depth, seating) + seating.active
        spread = self._spread(seating, depth)
        hidden = self._model.advance(self._gather(seating, spread), spread)
        heads = self._model.classify(hidden, spread)
        memory = self._on_rungs(tuple(_unless_new(each, seating) for each in self._table.memory), seating)
        decision = self._decide(heads, depth, memory, seating)
        leaving = decision.leaving & seating.active
        self._write_results(heads.logits, depth, decision, leaving, seating)
        self._keep(hidden, depth, decision, leaving, seating)

    def _seat(self) -> Seating:
        """Compact the slots by prefix sum, then admit from the head of the queue.

        Texts are admitted while slots and tokens last. Admission is a prefix of the queue: no text overtakes the head,
        and a text beyond the budget is admitted alone.
        """
        table, slots, places = self._table, len(self._table.lengths), self._places[: self._tier.slots]
        rank = table.staying.cumsum(dim=0)
        stay = rank[-1:]  # (1,) number of staying texts
        target = torch.where(table.staying, rank - 1, slots)  # texts that left go to a row that is cut off
        source = self._places.new_zeros(slots + 1).index_copy_(0, target, self._places)[: self._tier.slots]
        stayed = places < stay
        admitted, published = table.counts[:1], table.tail
        entry = admitted + places - stay
        offered = ~stayed & (entry < published)
        queued = table.queue.index_select(0, entry % len(table.queue))  # (N, 3)
        wanted = queued[:, 1].masked_fill(~offered, 0)
        taken = (table.lengths * table.staying).sum()
        ends = taken + wanted.cumsum(dim=0)
        new = offered & ((ends <= self._tier.tokens) | (ends == wanted))  # ends == wanted: first text of an empty table
        lengths = torch.where(stayed, table.lengths.index_select(0, source), wanted.masked_fill(~new, 0))
        seat = torch.where(stayed, table.seat.index_select(0, source), queued[:, 2])
        admitted.add_(new.sum())
        return Seating(source, stayed, stayed | new, entry, seat, lengths)

    def _spread(self, seating: Seating, depth: Tensor) -> Spread:
        ends = seating.lengths.cumsum(dim=0)
        starts = ends - seating.lengths
        slot = torch.searchsorted(ends, self._tokens, right=True).clamp_max(len(ends) - 1)
        place = (self._tokens - starts.index_select(0, slot)).clamp(0, self._model.longest - 1)
        offsets = torch.cat([torch.zeros_like(ends[:1]), ends]).to(torch.int32)
        real = self._tokens < ends[-1:]
        return Spread(real, slot, place, starts.clamp_max(self._rows - 1), seating.lengths, offsets, depth)

    def _gather(self, seating: Seating, spread: Spread) -> Tensor:
        """Copy each row from its text's old place, or embed it if new: (T, H).

        Rows without a text are zeros.
        """
        table = self._table
        before = (table.lengths.cumsum(dim=0) - table.lengths).index_select(0, seating.source)  # (N,) old first rows
        old = before.index_select(0, spread.slot) + spread.place
        kept = table.hidden.index_select(0, old.clamp_max(len(table.hidden) - 1))
        first = table.queue[:, 0].index_select(0, seating.entry % len(table.queue))  # (N,) in the token ring
        ids = table.queue_tokens.index_select(
            0, (first.index_select(0, spread.slot) + spread.place) % len(table.queue_tokens)
        )
        stayed = seating.stayed.index_select(0, spread.slot)[:, None]
        return torch.where(stayed, kept, self._model.embed(ids, spread.place)).masked_fill(~spread.real[:, None], 0)

    def _on_rungs(self, memory: State, seating: Seating) -> State:
        """Put admitted texts on their rungs.

        That is the recorded one, else that of the queue which they left behind.
        """
        if self._ladder is None:
            return memory
        table = self._table
        waiting = table.behind + table.tail - table.counts[:1]
        table.level.copy_(self._ladder.level_on_device(table.level, waiting))
        recorded = table.queue[:, 3].index_select(0, seating.entry % len(table.queue))
        admitted = torch.where(recorded < 0, table.level, recorded)
        return (torch.where(seating.stayed, memory[0], admitted), *memory[1:])

    def _decide(self, heads: Heads, depth: Tensor, memory: State, seating: Seating) -> Decision:
        decision = self._policy.decide(classifier_output(heads), depth, memory)
        decision = at_last_layer(decision, depth, self._model.config.layers)
        return at_limit(decision, depth, self._table.limits.index_select(0, seating.seat))

    def _write_results(
        self, logits: Tensor, depth: Tensor, decision: Decision, leaving: Tensor, seating: Seating
    ) -> None:
        """Write results in order of exit; staying texts write into the unread last row."""
        table, finished, ring = self._table, self._table.counts[1:], len(self._table.queue)
        nth = finished + leaving.cumsum(dim=0) - 1
        row = torch.where(leaving, nth % ring, ring)
        table.result_logits.index_copy_(0, row, logits)
        rung = torch.zeros_like(depth) if self._ladder is None else decision.state[0]
        facts = torch.stack([seating.seat, depth, decision.reason, rung], dim=1)
        table.result_facts.index_copy_(0, row, facts)
        finished.add_(leaving.sum())

    def _keep(self, hidden: Tensor, depth: Tensor, decision: Decision, leaving: Tensor, seating: Seating) -> None:
        """Write the state back in place.

        Slots beyond this tier's are empty now, because all staying texts have moved to the front.
        """
        table, slots = self._table, self._tier.slots
        table.hidden[: self._rows].copy_(hidden)
        table.lengths[slots:].zero_()
        table.staying[slots:].zero_()
        table.lengths[:slots].copy_(seating.lengths)
        table.staying[:slots].copy_(seating.active & ~leaving)
        table.depth[:slots].copy_(depth)
        table.seat[:slots].copy_(seating.seat)
        for kept, memory in zip(table.memory, decision.state, strict=True):
            kept[:slots].copy_(memory)


def _unless_new(values: Tensor, seating: Seating) -> Tensor:
    """Return the slots' moved rows (N, ...); zeros for new texts and empty slots."""
    moved = values.index_select(0, seating.source)
    return moved.masked_fill(~seating.stayed.view(-1, *[1] * (moved.dim() - 1)), 0)
