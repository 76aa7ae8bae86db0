"""Records -> elements -> token ids; an exception in our code becomes a dead letter.

Without that, a record that breaks the code would be read again after each restart: a crash loop.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

import structlog

from earlybird.engine.text.assembly import Text
from earlybird.engine.text.encoder import Encoded, TextEncoder
from earlybird.schemas.rejection import Reason
from earlybird.stream.observability.logging import failure
from earlybird.stream.parsing.records import Element, Readable, Skip, refused_record, text_of
from earlybird.stream.ports import Partition, Position, Record
from earlybird.stream.stage.messages import Entry

log = structlog.get_logger(__name__)

Read = Callable[[Record], list[Element | Skip]]
"""Function from a record to its elements, at least one."""

Ready = Callable[[Record], bool]
"""Function that tells whether a record can be read now. A record that cannot holds up those behind it."""

MOST_BYTES = 1_048_576  # of records per turn of the loop, so that no turn takes long


def always_ready(_: Record) -> bool:
    """Return True; the Ready of a stage without a schema registry."""
    return True


class GuardedParser:
    """Parser and encoder that turn exceptions into dead letters.

    Not thread-safe: consumer thread only.
    """

    def __init__(self, encoder: TextEncoder, read: Read, ready: Ready = always_ready) -> None:
        self._encoder, self._read, self._ready = encoder, read, ready
        self._unread: deque[Record] = deque()

    @property
    def unread(self) -> int:
        """Number of records that wait for `take`."""
        return len(self._unread)

    @property
    def blocked(self) -> bool:
        """Whether the next record cannot be read yet."""
        return bool(self._unread) and not self._ready(self._unread[0])

    def add(self, records: Sequence[Record]) -> None:
        """Queue consumed records."""
        self._unread.extend(records)

    def take(self, room: int, entries_of: Callable[[Record], list[Entry]]) -> list[Entry]:
        """Return entries of the next records, about `room` of them.

        Reads at least one record, and stops once there are `room` entries, 1 MiB was read or the next is blocked. There
        may be more entries than `room`: one record may hold thousands of elements.
        """
        entries: list[Entry] = []
        size = 0
        while self._unread and (not size or (len(entries) < room and size < MOST_BYTES)) and not self.blocked:
            record = self._unread.popleft()
            size += max(1, len(record.value or b""))
            entries += entries_of(record)
        return entries

    def drop(self, partitions: Collection[Partition]) -> None:
        """Discard queued records of partitions that are no longer ours."""
        kept = (record for record in self._unread if Partition(record.topic, record.partition) not in partitions)
        self._unread = deque(kept)

    def read(self, record: Record) -> list[Element | Skip]:
        """Parse a record into its elements."""
        try:
            return self._read(record)
        except Exception as error:
            position = Position(record.topic, record.partition, record.offset)
            log.error("record.failed", position=position, **failure(error))
            return [refused_record(record, Reason.POISON, f"{type(error).__name__}: {error}")]

    def refuse(self, record: Record, attempts: int) -> list[Element | Skip]:
        """Refuse a record that ended the process each time it was read."""
        detail = f"{attempts} processes ended without a word while they read this record, the last ones nothing else"
        log.error("record.killed", topic=record.topic, partition=record.partition, offset=record.offset)
        return [refused_record(record, Reason.POISON, detail)]

    def encode(self, entries: Iterable[Entry]) -> None:
        """Tokenise readable elements in one call; an element that fails becomes a dead letter."""
        readable = [(entry, entry.element) for entry in entries if isinstance(entry.element, Readable)]
        texts = [text_of(element.item) for _, element in readable]
        try:
            encoded: list[Encoded | Exception | None] = list(self._encoder.encode(texts))
        except Exception as error:
            log.error("encode.failed", texts=len(texts), **failure(error))
            encoded = [self._encode_alone(text) for text in texts]
        for (entry, element), result in zip(readable, encoded, strict=True):
            if isinstance(result, Encoded):
                entry.encoded = result
            elif result is None:
                entry.element = element.refused(Reason.EMPTY_TEXT, "nothing left to read after cleaning")
            else:
                entry.element = element.refused(Reason.POISON, f"{type(result).__name__}: {result}")

    def _encode_alone(self, text: Text) -> Encoded | Exception | None:
        try:
            return self._encoder.encode([text])[0]
        except Exception as error:
            return error


def waits_since(element: Element, now_us: int) -> int | None:
    """Return when an element's wait began, for the lag.

    That is its ingest time; for items with an assumed ingest time (backfills) it is `now_us`, the time of consumption.
    """
    assumed = isinstance(element, Readable) and element.item.ingested_origin == "assumed"
    return now_us if assumed else element.ingested_us
