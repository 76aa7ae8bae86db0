"""Deduplication of texts already answered or in flight. Owned by the consumer thread.

Two levels are asked in this order: the texts in flight in this process, where a duplicate waits for its leader, and the
duplicate cache in Redis, where the text was answered before or another worker is computing it. The key covers
everything that changes a verdict, so an answer of the cache equals the model's; only `novelty` depends on the cache. An
answer cut short by a deadline is an exception: it is shared with its leader's followers and never stored in the cache.
Under a policy that follows the load, a duplicate gets the answer of the first text's rung.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.schemas.signal import ExitReason
from earlybird.stream.parsing.records import Readable
from earlybird.stream.ports import Acquired, Claim, DuplicateCache, First, Hit
from earlybird.stream.stage.messages import Answer, Duplicate, Entry, TimedRequest

RECHECK_S = 0.01  # interval between queries about another worker's claim


@dataclass(slots=True)
class _Leader:
    """A text in flight in this process, and the number of its followers."""

    leader: Entry
    at_us: int
    followers: int = 0


class _Parked(NamedTuple):
    """A text that another worker is computing."""

    entry: Entry
    until_s: float  # monotonic

    def late(self, now_us: int, now_s: float) -> bool:
        """Return whether it cannot wait any longer."""
        due_us = self.entry.due_us
        return self.until_s <= now_s or (due_us is not None and due_us <= now_us)


class Deduplicator:
    """Decides which entries need the model. Not thread-safe: consumer thread only."""

    def __init__(
        self,
        cache: DuplicateCache,
        text_key: Callable[[tuple[int, ...]], str],
        ttl_us: int,
        longest_wait_s: float,
        answered: Callable[[list[Answer]], None],
    ) -> None:
        """Create it. `longest_wait_s` bounds the wait for another worker's result."""
        self._longest_wait_s = longest_wait_s
        self._cache, self._text_key, self._ttl_us, self._answered = cache, text_key, ttl_us, answered
        self._flights: dict[str, _Leader] = {}
        self._parked: dict[int, _Parked] = {}  # by ticket: texts that another worker is computing
        self._recheck_due_s = 0.0
        self._next_ticket = 0

    @property
    def waiting(self) -> int:
        """Number of texts that another worker is computing."""
        return len(self._parked)

    def look_up(self, entries: Iterable[Entry]) -> list[TimedRequest]:
        """Give readable entries their tickets and cached answers; return the requests that remain."""
        leaders = [entry for entry in entries if entry.encoded is not None and not self._follow(entry)]
        requests, answers = self._claim([entry for entry in leaders if entry.depth_limit is None])
        requests += [_request(entry) for entry in leaders if entry.depth_limit is not None]  # not shared
        for entry in leaders:
            if entry.ticket in answers:
                entry.answer = answers[entry.ticket]
        return requests

    def recheck(self, now_us: int) -> list[TimedRequest]:
        """Query the cache again about texts that other workers are computing.

        Returns requests for those given up by their worker and for those that cannot wait any longer. Calls `answered`
        with the answers found.
        """
        if not self._parked or time.monotonic() < self._recheck_due_s:
            return []
        now_s, before = time.monotonic(), self._parked
        late = [parked.entry for parked in before.values() if parked.late(now_us, now_s)]
        self._parked = {}
        requests, answers = self._claim([parked.entry for parked in before.values() if not parked.late(now_us, now_s)])
        for ticket in self._parked:
            self._parked[ticket] = before[ticket]  # keeps the time since it waits
        requests += map(_request, late)
        if answers:
            self._answered(list(answers.values()))
        return requests

    def on_acknowledged(self, finished: Iterable[Entry]) -> list[int]:
        """Store the results of acknowledged entries; return tickets that no later entry can need."""
        firsts: dict[str, First] = {}
        repeats: dict[str, int] = {}
        tickets = []
        for entry in finished:
            if not entry.leads or entry.ticket is None:
                continue
            tickets.append(entry.ticket)
            flight = self._flights.get(entry.text_key)
            if flight is not None and flight.leader is entry:
                del self._flights[entry.text_key]
                if flight.followers:
                    repeats[entry.text_key] = flight.followers
            answer = entry.answer
            if answer is not None and answer.duplicate is not None:
                continue
            verdict = None if answer is None else answer.verdict
            if verdict is not None and verdict.exit_reason is not ExitReason.DEADLINE:
                item = _item(entry)
                firsts[entry.text_key] = First(item.item_key, entry.element.position, item.ingested_us, verdict)
            else:
                repeats.setdefault(entry.text_key, 0)  # give up our claim before its lease ends
        if firsts or repeats:
            self._cache.store(firsts, repeats)
        return tickets

    def _follow(self, entry: Entry) -> bool:
        """Attach an entry to its leader in flight (True) or make it a leader (False).

        A leader gets a new ticket.
        """
        assert entry.encoded is not None
        key = self._text_key(entry.encoded.token_ids)
        entry.text_key = key if entry.rung is None else f"{key}:{entry.rung}"
        item = _item(entry)
        flight = None if entry.depth_limit is not None else self._flights.get(entry.text_key)
        if flight is not None and abs(item.ingested_us - flight.at_us) <= self._ttl_us:
            flight.followers += 1
            leader = _item(flight.leader)
            entry.ticket = flight.leader.ticket
            entry.duplicate = Duplicate(leader.item_key, leader.ingested_us, flight.followers)
            return True
        self._next_ticket += 1
        entry.ticket, entry.leads = self._next_ticket, True
        if entry.depth_limit is None:
            self._flights[entry.text_key] = _Leader(entry, item.ingested_us)
        return False

    def _claim(self, leaders: list[Entry]) -> tuple[list[TimedRequest], dict[int, Answer]]:
        """Claim these texts in one cache call; return requests, and known answers by ticket."""
        requests: list[TimedRequest] = []
        answers: dict[int, Answer] = {}
        if not leaders:
            return requests, answers
        claims = [
            Claim(entry.text_key, _item(entry).item_key, entry.element.position, _item(entry).ingested_us)
            for entry in leaders
        ]
        for entry, answer in zip(leaders, self._cache.claim(claims), strict=True):
            assert entry.ticket is not None
            if isinstance(answer, Hit):
                answers[entry.ticket] = Answer(entry.ticket, answer.first.verdict, duplicate=_duplicate(entry, answer))
            elif isinstance(answer, Acquired):
                requests.append(_request(entry))
            else:
                self._parked[entry.ticket] = _Parked(entry, time.monotonic() + self._longest_wait_s)
                self._recheck_due_s = time.monotonic() + RECHECK_S
        return requests, answers


def _request(entry: Entry) -> TimedRequest:
    assert entry.ticket is not None and entry.encoded is not None
    ids = entry.encoded.token_ids
    return TimedRequest(entry.ticket, ids, entry.depth_limit, entry.rung, due_us=entry.due_us)


def _duplicate(entry: Entry, hit: Hit) -> Duplicate | None:
    """Return the earlier item; None for a text that finds itself after a restart."""
    first = hit.first
    if first.position == entry.element.position:
        return None
    return Duplicate(first.item_key, first.seen_us, hit.count)


def _item(entry: Entry) -> RawNews | RawTweet:
    assert isinstance(entry.element, Readable), "only readable entries have a text. This is a bug."
    return entry.element.item
