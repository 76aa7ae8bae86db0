"""Items of a recording: signals of an iterable, or lazily read rows of files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.signal import Signal
from earlybird.stream.subscription.selection import Facts, Gate, place_of

if TYPE_CHECKING:
    from earlybird.stream.adapters.signal_files import Rows


class Item(Protocol):
    """A recorded signal that passed the gate."""

    @property
    def available_us(self) -> int: ...
    @property
    def item_key(self) -> str: ...
    @property
    def signal_id(self) -> str: ...

    def signal(self) -> Signal:
        """Return the message; raises DecodeError."""

    def read(self) -> "Item":
        """Return an item that stays valid while its source is read further."""


class PeerResult(NamedTuple):
    """A signal of an iterable."""

    message: Signal
    available_us: int

    @property
    def item_key(self) -> str:
        return self.message.item_key

    @property
    def signal_id(self) -> str:
        return self.message.signal_id

    def signal(self) -> Signal:
        return self.message

    def read(self) -> Item:
        return self


class Held(NamedTuple):
    """A message of an archive, copied out of its file."""

    message: bytes
    available_us: int
    item_key: str
    signal_id: str

    def signal(self) -> Signal:
        return decode(Signal, self.message)

    def read(self) -> Item:
        return self


class Row(NamedTuple):
    """A row of an archive."""

    rows: "Rows"
    number: int
    available_us: int
    item_key: str
    signal_id: str

    def signal(self) -> Signal:
        return decode(Signal, self.rows.message(self.number))

    def read(self) -> Item:
        return Held(self.rows.message(self.number), self.available_us, self.item_key, self.signal_id)


@dataclass
class Archived:
    """Signals of a time range in an archive or a replay's output.

    `whole`: read all columns; set before `items` is called.
    """

    path: Path
    start_us: int | None
    end_us: int | None
    whole: bool = False

    def items(self, gate: Gate) -> Iterator[Item]:
        """Yield what the gate admits, judged by columns alone; raises SourceError."""
        from earlybird.stream.adapters.columns import SIGNAL  # strategies that read no files need no pyarrow
        from earlybird.stream.adapters.signal_files import FACTS, read_signal_rows
        from earlybird.stream.archive.reader import signal_files

        columns = tuple(SIGNAL) if self.whole else FACTS
        for rows in read_signal_rows(
            signal_files(self.path, self.start_us, self.end_us), columns, self.start_us, self.end_us
        ):
            if gate.open:
                told = rows.columns(["available_us", "item_key", "signal_id"])
                yield from map(Row, repeat(rows), range(len(rows)), *told)
            else:
                yield from _admitted(rows, gate)


def told(recorded: Iterable[tuple[Signal, int]], gate: Gate) -> Iterator[Item]:
    """Yield the items that the gate admits, of signals with their instants."""
    for signal, available_us in recorded:
        if gate.admits(Facts.of_signal(signal)):
            yield PeerResult(signal, available_us)


def between(
    recorded: Iterable[tuple[Signal, int]], start_us: int | None, end_us: int | None
) -> Iterator[tuple[Signal, int]]:
    """Yield signals available from `start_us` on and before `end_us`."""
    for signal, available_us in recorded:
        if end_us is not None and available_us >= end_us:
            return
        if start_us is None or available_us >= start_us:
            yield signal, available_us


def _place(message: bytes) -> str:
    try:
        return place_of(decode(Signal, message))
    except DecodeError:
        return ""


def _admitted(rows: "Rows", gate: Gate) -> Iterator[Item]:
    from earlybird.stream.adapters.signal_files import FACTS

    numbers = rows.candidates(gate.selection, list(gate.passed))
    gate.filtered += len(rows) - len(numbers)
    columns = rows.columns(["available_us", *FACTS], numbers)
    for number, available_us, *told in zip(numbers, *columns, strict=True):
        facts = Facts.of_columns(*told)
        if gate.distinct:
            facts = facts._replace(raw=_place(rows.message(number)))
        if gate.admits(facts):
            yield Row(rows, number, available_us, facts.item_key, facts.signal_id)
