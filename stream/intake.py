"""Records become elements, and elements token ids. What breaks our own code becomes a dead letter, not a crash loop."""

from collections.abc import Iterable

import structlog

from engine.text.assembly import Text
from engine.text.encoder import Encoded, TextEncoder
from schemas.rejection import Reason
from stream import preprocess
from stream.inflight import Entry
from stream.ports import Position, Record
from stream.preprocess import Element, Limits, Readable, Refusal, text_of

log = structlog.get_logger(__name__)


class Intake:
    """Not thread-safe: consumer thread only."""

    def __init__(self, encoder: TextEncoder, limits: Limits) -> None:
        self._encoder, self._limits = encoder, limits

    def read(self, record: Record) -> list[Element]:
        """What it says."""
        try:
            return preprocess.read(record, self._limits)
        except Exception as error:
            log.exception("record.failed", topic=record.topic, partition=record.partition, offset=record.offset)
            position = Position(record.topic, record.partition, record.offset)
            return [Refusal(position, Reason.POISON, f"{type(error).__name__}: {error}"[:500])]

    def encode(self, entries: Iterable[Entry]) -> None:
        """Turn readable elements into token ids, all in one call; one that breaks the call becomes a dead letter."""
        readable = [(entry, entry.element) for entry in entries if isinstance(entry.element, Readable)]
        texts = [text_of(element.item) for _, element in readable]
        try:
            encoded: list[Encoded | Exception | None] = list(self._encoder.encode(texts))
        except Exception:
            log.exception("encode.failed", texts=len(texts))
            encoded = [self._encode_alone(text) for text in texts]
        for (entry, element), result in zip(readable, encoded, strict=True):
            if isinstance(result, Encoded):
                entry.encoded = result
            elif result is None:
                entry.element = element.refused(Reason.EMPTY_TEXT, "nothing left to read after cleaning")
            else:
                entry.element = element.refused(Reason.POISON, f"{type(result).__name__}: {result}"[:500])

    def _encode_alone(self, text: Text) -> Encoded | Exception | None:
        try:
            return self._encoder.encode([text])[0]
        except Exception as error:
            return error


def waits_since(element: Element, now_us: int) -> int | None:
    """Since when it waits for its outcome, for the lag: history, whose ingest time was assumed, since it was read."""
    assumed = isinstance(element, Readable) and element.item.ingested_origin == "assumed"
    return now_us if assumed else element.ingested_us
