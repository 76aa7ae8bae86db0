"""Items of a recording: signals of an iterable, or lazily read rows of files."""

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.signal import Signal
from earlybird.stream.subscription.selection import SignalFilter
from earlybird.stream.subscription.signal_headers import SignalHeaders, raw_position

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


class GivenItem(NamedTuple):
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


class CopiedItem(NamedTuple):
    """A message of an archive, copied out of its file."""

    message: bytes
    available_us: int
    item_key: str
    signal_id: str

    def signal(self) -> Signal:
        return decode(Signal, self.message)

    def read(self) -> Item:
        return self


class FileItem(NamedTuple):
    """A row of an archive."""

    rows: "Rows"
    number: int
    available_us: int
    item_key: str
    signal_id: str

    def signal(self) -> Signal:
        return decode(Signal, self.rows.message(self.number))

    def read(self) -> Item:
        return CopiedItem(self.rows.message(self.number), self.available_us, self.item_key, self.signal_id)


@dataclass
class Archived:
    """Signals of a time range in an archive or a replay's output.

    `whole`: read all columns; set before `items` is called.
    """

    path: Path
    start_us: int | None
    end_us: int | None
    whole: bool = False

    def items(self, signal_filter: SignalFilter) -> Iterator[Item]:
        """Yield what the gate admits, judged by columns alone; raises SourceError."""
        from earlybird.stream.adapters.columns import SIGNAL  # strategies that read no files need no pyarrow
        from earlybird.stream.adapters.signal_files import FACTS, read_signal_rows
        from earlybird.stream.archive.reader import signal_files

        columns = tuple(SIGNAL) if self.whole else (*FACTS, *signal_filter.selection.needed)
        for rows in read_signal_rows(
            signal_files(self.path, self.start_us, self.end_us), columns, self.start_us, self.end_us
        ):
            if signal_filter.open:
                values = rows.columns(["available_us", "item_key", "signal_id"])
                yield from map(FileItem, repeat(rows), range(len(rows)), *values)
            else:
                yield from _admitted(rows, signal_filter)


def items_of(recorded: Iterable[tuple[Signal, int]], signal_filter: SignalFilter) -> Iterator[Item]:
    """Yield the items that the gate admits, of signals with their instants."""
    for signal, available_us in recorded:
        if signal_filter.admits(SignalHeaders.of_signal(signal)):
            yield GivenItem(signal, available_us)


def between(
    recorded: Iterable[tuple[Signal, int]], start_us: int | None, end_us: int | None
) -> Iterator[tuple[Signal, int]]:
    """Yield signals available from `start_us` on and before `end_us`; close `recorded` at the end."""
    try:
        for signal, available_us in recorded:
            if end_us is not None and available_us >= end_us:
                return
            if start_us is None or available_us >= start_us:
                yield signal, available_us
    finally:
        if isinstance(recorded, Generator):  # at once, whatever else holds it: it may have a consumer open
            recorded.close()


def _raw_position(message: bytes) -> str:
    try:
        return raw_position(decode(Signal, message))
    except DecodeError:
        return ""


def _admitted(rows: "Rows", signal_filter: SignalFilter) -> Iterator[Item]:
    from earlybird.stream.adapters.signal_files import FACTS

    numbers = rows.candidates(signal_filter.selection, list(signal_filter.passed))
    signal_filter.filtered += len(rows) - len(numbers)
    further = signal_filter.selection.needed
    columns = rows.columns(["available_us", *FACTS, *further], numbers)
    for number, available_us, *values in zip(numbers, *columns, strict=True):
        headers = SignalHeaders.of_columns(
            *values[: len(FACTS)], **dict(zip(further, values[len(FACTS) :], strict=True))
        )
        if signal_filter.distinct:
            headers = headers._replace(raw=_raw_position(rows.message(number)))
        if signal_filter.admits(headers):
            yield FileItem(rows, number, available_us, headers.item_key, headers.signal_id)
