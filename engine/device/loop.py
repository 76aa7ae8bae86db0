"""Slot loop on the device: the step alone decides on admission, exit and refill.

The host writes requests to one ring, launches steps and reads results from another ring. It never waits inside a step.
It keeps up to `ahead` batches of steps in flight and then reads the oldest, so the device has the next batch before the
host has read the last one.

A ring row is reused only after the host has read that the device is done with it (entries and tokens once admitted,
results once collected), and that read comes after the copies concerned. Only a text's limit may change
during a copy or a step, which then sees the old or the new one.

A smaller tier is chosen only when all texts that may be in the model or in the queue fit into it.

Tested on the CPU, with immediate and with delayed lanes; not yet run on a CUDA device.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from earlybird.engine.device.layer import StaticElbert
from earlybird.engine.device.step import CapturedStep, Table, Tier, checked_tiers
from earlybird.engine.device.streams import Device, StreamMark, Work
from earlybird.engine.errors import ConfigError, DeviceLost
from earlybird.engine.exits.ladder import Ladder
from earlybird.engine.exits.policy import Decision, ExitPolicy, Heads, classifier_output
from earlybird.engine.slots.verdicts import check_lengths, verdicts
from earlybird.engine.types import Request, Verdict

NO_QUEUE = -(2**40)  # texts behind where no queue is followed: a ladder stays on its first rung
DeviceError: type[Exception] = getattr(torch, "AcceleratorError", RuntimeError)


@dataclass(frozen=True)
class _ResultBuffer:
    """Host memory for one batch's results; reused once they have been read."""

    counts: Tensor
    logits: Tensor
    facts: Tensor


@dataclass(frozen=True)
class _Batch:
    """A batch of steps in flight."""

    done: StreamMark  # after the copies of the results
    buffer: _ResultBuffer


class Resident:
    """Runner on the device; `waiting` and `active` are as of the last batch read.

    `tiers` ascend; `entries` bounds the texts in flight on the device, 0: four times the largest tier's slots, at least
    256. The constructor captures every tier. Not thread-safe: one thread owns it.
    """

    def __init__(
        self,
        model: StaticElbert,
        policy: ExitPolicy,
        tiers: Sequence[Tier],
        device: Device,
        entries: int = 0,
        ahead: int = 2,
        temperatures: Tensor | None = None,
    ) -> None:
        self._tiers = checked_tiers(tiers)
        if ahead < 1:
            raise ConfigError(f"ahead: at least 1 required, was {ahead}")
        self._entries = entries or max(256, 4 * self._tiers[-1].slots)
        self.model, self._device, self._ahead = model, device, ahead
        self._temperatures = temperatures
        self.table = Table.empty(model, policy, self._tiers, self._entries)
        table, pinned = self.table, device.pinned
        self._queue, self._queue_tokens = pinned(table.queue), pinned(table.queue_tokens)
        self._limits = pinned(table.limits).fill_(model.config.layers)
        self._limit_at = self._limits.numpy()  # shares the memory; setting a tensor's item takes 2 us
        self._limited: set[int] = set()  # seats of texts with a limit
        self._limits_changed = False
        self._buffers = deque(
            _ResultBuffer(pinned(table.counts), pinned(table.result_logits), pinned(table.result_facts))
            for _ in range(ahead)
        )
        self._steps: dict[Tier, Work] = {
            tier: device.graph(CapturedStep(model, policy, table, tier)) for tier in reversed(self._tiers)
        }
        self._only: Tier | None = None
        self._ladder = isinstance(policy, Ladder)
        self.behind: int | None = None
        self._waiting: deque[Request] = deque()
        self._batches: deque[_Batch] = deque()
        self._free = deque(range(self._entries))  # seats
        self._in_flight: dict[int, Request] = {}  # by seat: published, result not yet collected
        self._seats: dict[int, int] = {}  # seat of each published text, by ticket
        self._in_flight_tokens = 0
        self._queued: deque[int] = deque()  # token counts of texts published and not admitted at the last read
        self._queued_tokens = 0
        self._published = self._published_tokens = 0
        self._admitted = self._finished = 0  # at the last read

    @property
    def waiting(self) -> int:
        return len(self._waiting) + self._published - self._admitted

    @property
    def active(self) -> int:
        return self._admitted - self._finished

    def submit(self, requests: Sequence[Request]) -> None:
        check_lengths(requests, self.model.longest)
        self._waiting.extend(requests)

    def expire(self, tickets: Iterable[int]) -> None:
        """See Runner.expire; the next layer is the first of the next batch.

        Steps already in flight are not affected.
        """
        late = set(tickets)
        for ticket in late & self._seats.keys():
            self._limit(self._seats[ticket], 1)
        if self._waiting and late - self._seats.keys():
            self._waiting = deque(
                replace(request, depth_limit=1) if request.ticket in late else request for request in self._waiting
            )

    def only(self, tier: Tier | None) -> None:
        """Run only this tier; None: the smallest that suffices. For an empty loop only."""
        assert not (self._in_flight or self._waiting), "texts are under way. This is a bug."
        assert tier is None or tier in self._steps, f"no such tier, was {tier}. This is a bug."
        self._only = tier

    def __del__(self) -> None:
        """Wait for queued work before the buffers are freed.

        Steps write into this memory, and may run one batch longer than the last verdict.
        """
        device: Device | None = getattr(self, "_device", None)  # None: the constructor failed before setting it
        for stream in (device.uploads, device.compute, device.downloads) if device else ():
            with suppress(DeviceError):
                stream.mark().wait()

    @torch.no_grad()
    def step(self) -> list[Verdict]:
        """Launch a batch if texts are in flight; return the verdicts of finished batches.

        Waits only for the oldest of `ahead` batches. Raises DeviceLost; this runner and its device are then unusable.
        """
        try:
            self._publish()
            if self._in_flight:
                self._launch(self._tier())
            return self._collect()
        except DeviceError as error:
            raise DeviceLost(f"{self._device.where}: {error}") from error

    def _publish(self) -> None:
        """Move requests from the queue's head into the device's ring while there is room."""
        taken: list[Request] = []
        tokens, room = 0, len(self._queue_tokens) - self._queued_tokens
        while self._waiting and len(self._in_flight) + len(taken) < self._entries:
            size = len(self._waiting[0].token_ids)
            if tokens + size > room:
                break
            tokens += size
            taken.append(self._waiting.popleft())
        if taken:
            self._queue_up(taken)
        if self._limits_changed:
            self._limits_changed = False
            self._device.uploads.run(partial(self.table.limits.copy_, self._limits, non_blocking=True))
        elif not taken:
            return
        self._device.compute.after(self._device.uploads.mark())

    def _queue_up(self, taken: list[Request]) -> None:
        """Write requests into the rings; each gets a seat."""
        seats = [self._free.popleft() for _ in taken]
        for seat, request in zip(seats, taken, strict=True):
            if request.depth_limit is not None:
                self._limit(seat, request.depth_limit)
        sizes = [len(request.token_ids) for request in taken]
        ring = len(self._queue_tokens)
        starts = accumulate(sizes[:-1], initial=self._published_tokens)
        entries, ids = array("q"), array("q")  # torch.tensor over lists takes seven times as long
        for start, size, seat, request in zip(starts, sizes, seats, taken, strict=True):
            entries.extend((start % ring, size, seat, -1 if request.rung is None else request.rung))
            ids.extend(request.token_ids)
        entry_rows = torch.frombuffer(entries, dtype=torch.int64).view(-1, 4)
        self._upload(self._queue, self.table.queue, self._published, entry_rows)
        token_rows = torch.frombuffer(ids, dtype=torch.int64)
        self._upload(self._queue_tokens, self.table.queue_tokens, self._published_tokens, token_rows)
        self._in_flight.update(zip(seats, taken, strict=True))
        self._seats.update((request.ticket, seat) for seat, request in zip(seats, taken, strict=True))
        self._queued.extend(sizes)
        self._published += len(taken)
        self._published_tokens += sum(sizes)
        self._queued_tokens += sum(sizes)
        self._in_flight_tokens += sum(sizes)

    def _limit(self, seat: int, limit: int) -> None:
        self._limit_at[seat] = limit
        self._limited.add(seat)
        self._limits_changed = True

    def _upload(self, pinned: Tensor, ring: Tensor, first: int, values: Tensor) -> None:
        """Write `values` into the ring from row `first` on."""
        done = 0
        for window in _windows(first, len(values), len(ring)):
            size = window.stop - window.start
            pinned[window].copy_(values[done : done + size])
            self._device.uploads.run(partial(ring[window].copy_, pinned[window], non_blocking=True))
            done += size

    def _tier(self) -> Tier:
        """Return the smallest tier that holds all unfinished published texts, or the largest."""
        if self._only:
            return self._only
        for tier in self._tiers:
            if len(self._in_flight) <= tier.slots and self._in_flight_tokens <= tier.tokens:
                return tier
        return self._tiers[-1]

    def _launch(self, tier: Tier) -> None:
        """Queue one batch of steps and the copies of its results."""
        assert self._buffers, "more batches under way than landings. This is a bug."
        device, table, buffer = self._device, self.table, self._buffers.popleft()
        device.compute.run(partial(table.tail.fill_, self._published))
        if self._ladder:
            behind = NO_QUEUE if self.behind is None else self.behind + len(self._waiting)
            device.compute.run(partial(table.behind.fill_, behind))
        for _ in range(tier.stride):
            device.compute.run(self._steps[tier])
        # The next batch changes the counts, so they are copied in order; a result row is not reused before it has been
        # collected, so the rows may be copied during the next steps.
        device.compute.run(partial(buffer.counts.copy_, table.counts, non_blocking=True))
        device.downloads.after(device.compute.mark())
        for window in _windows(self._finished, len(self._in_flight), self._entries):
            for host, ring in ((buffer.logits, table.result_logits), (buffer.facts, table.result_facts)):
                device.downloads.run(partial(host[window].copy_, ring[window], non_blocking=True))
        self._batches.append(_Batch(device.downloads.mark(), buffer))

    def _collect(self) -> list[Verdict]:
        finished: list[Verdict] = []
        while self._batches and (self._batches[0].done.reached() or len(self._batches) >= self._ahead):
            batch = self._batches.popleft()
            batch.done.wait()
            finished += self._read(batch.buffer)
            self._buffers.append(batch.buffer)
        return finished

    def _read(self, buffer: _ResultBuffer) -> list[Verdict]:
        """Return the new verdicts of a finished batch."""
        admitted, finished = buffer.counts.tolist()
        for _ in range(admitted - self._admitted):
            self._queued_tokens -= self._queued.popleft()
        windows = list(_windows(self._finished, finished - self._finished, self._entries))
        self._admitted, self._finished = admitted, finished
        if not windows:
            return []
        logits = torch.cat([buffer.logits[window] for window in windows])
        seats, depth, reason, rung = torch.cat([buffer.facts[window] for window in windows]).unbind(dim=1)
        requests = [self._leave(seat) for seat in seats.tolist()]
        self._in_flight_tokens -= sum(len(request.token_ids) for request in requests)
        decision = Decision(torch.ones_like(seats, dtype=torch.bool), reason, ())
        output, rows = classifier_output(Heads(logits)), range(len(requests))
        rungs = rung.tolist() if self._ladder else None
        return verdicts(requests, depth.tolist(), output, decision, rows, self._temperatures, rungs)

    def _leave(self, seat: int) -> Request:
        """Free a seat and return its request."""
        request = self._in_flight.pop(seat)
        del self._seats[request.ticket]
        self._free.append(seat)
        if seat in self._limited:
            self._limit(seat, self.model.config.layers)
            self._limited.discard(seat)
        return request


def _windows(first: int, count: int, size: int) -> Iterator[slice]:
    """Return the ring slices of `count` rows from `first` on: none, one or two.

    `size` is the number of rows in the ring.
    """
    start = first % size
    if count:
        yield slice(start, min(start + count, size))
    if start + count > size:
        yield slice(0, start + count - size)
