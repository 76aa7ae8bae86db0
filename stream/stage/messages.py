"""What is on its way through the stage, and the messages between its threads.

consumer --[Entries, Answers, Revoked, Forget, Control, Stop]--> publisher --[finished entries, Revoked]--> consumer
consumer --[timed requests]--> engine threads --[Answers]--> publisher
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pydantic_core import to_json

from earlybird.engine.text.encoder import Encoded
from earlybird.engine.types import Request, Verdict
from earlybird.schemas.control import Heartbeat
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.parsing.records import Element, Refusal
from earlybird.stream.ports import Partition, Record

Fields = dict[str, Any]
"""A Signal as the values of its JSON, in the schema's order."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """An earlier item had the same text: who, when, and how many did so far."""

    first_item_key: str
    first_seen_us: int
    count: int


@dataclass(frozen=True, slots=True)
class TimedRequest(Request):
    """A request whose answer is wanted by an instant, as deep as it is by then."""

    due_us: int | None = None


@dataclass(slots=True, eq=False)
class Entry:
    """One element of one raw record from its delivery to the broker's acknowledgement of its outcome.

    The consumer fills it in and hands it over; from then on it is the publisher's until it comes back finished.
    """

    element: Element
    record: Record
    epoch: int
    consumed_us: int
    due_us: int | None = None  # from then on it leaves after its next layer
    depth_limit: int | None = None  # of a text that a replay cuts where it was cut live
    encoded: Encoded | None = None  # set for readable elements only, like the three below
    text_key: str = ""  # the duplicate key
    ticket: int | None = None  # of the request whose verdict answers this entry: its own, or its leader's
    leads: bool = False  # the ticket is its own
    duplicate: Duplicate | None = None  # its leader in flight, for a follower
    answer: "Answer | None" = None
    told: list[Fields | Rejection] = field(default_factory=list)  # produced, and not acknowledged as a whole yet
    unacknowledged: int = 0  # its records that the broker has not acknowledged
    void: bool = False  # its partition went to another member, who will do it again

    @property
    def partition(self) -> Partition:
        """Where its record came from."""
        return Partition(self.record.topic, self.record.partition)

    @property
    def outcome(self) -> list[Signal | Rejection]:
        """What was produced, as messages; empty again once it is acknowledged."""
        return [one if isinstance(one, Rejection) else Signal.model_validate_json(to_json(one)) for one in self.told]


def observed_us(element: Element) -> int | None:
    """When a live element was ingested. None for history, whose `ingested_us` was made up, and for what has none."""
    item = None if isinstance(element, Refusal) else element.item
    return None if item is not None and item.ingested_origin == "assumed" else element.ingested_us


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict for one ticket, from an engine thread or from the cache; or why there is none."""

    ticket: int
    verdict: Verdict | None
    engine_in_us: int | None = None
    exited_us: int | None = None
    duplicate: Duplicate | None = None  # the cache answered
    error: str = ""  # the engine failed on this text, alone


@dataclass(frozen=True, slots=True)
class Entries:
    """New entries in raw order. They reach the publisher before any answer to them can."""

    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class Answers:
    """Verdicts, in any order."""

    answers: list[Answer]


@dataclass(frozen=True, slots=True)
class Revoked:
    """Entries of these partitions up to these epochs get no outcome from us any more. It comes back as soon as the
    broker has all that had left before."""

    epochs: Mapping[Partition, int]


@dataclass(frozen=True, slots=True)
class Forget:
    """No later entry will wait for these tickets."""

    tickets: list[int]


@dataclass(frozen=True, slots=True)
class Control:
    """A message for signals.control."""

    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Stop:
    """Publish nothing more; end when everything is acknowledged."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A thread cannot go on; the process must end."""

    error: BaseException


ToPublisher = Entries | Answers | Revoked | Forget | Control | Stop
FromPublisher = list[Entry] | Revoked | Failed


class Inference(Protocol):
    """Where requests go; their answers arrive at the publisher."""

    def submit(self, requests: list[TimedRequest]) -> None:
        """Queue requests. Never blocks: the pipeline's budget bounds what is in flight. Called each turn, without any
        as well: what had no room before may have some now."""
