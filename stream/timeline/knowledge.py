"""Detects texts that a model may have learned from before it is tested on them.

Pure. A text's own times count as well as that of its availability: history that was fed late became available late, and
the model may have learned its texts all the same. The earliest time in a signal decides, and a model may have learned
what is exactly as old as its knowledge. Where a source gave no time of publication, the ingest time of the text stands
in for it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from earlybird.schemas.codec import DecodeError
from earlybird.schemas.signal import Signal
from earlybird.stream.observability.logging import get_logger
from earlybird.stream.timeline.instants import written

log = get_logger(__name__)


def text_us(signal: Signal, available_us: int) -> int:
    """Return the earliest of a signal's times: published, updated, ingested or available."""
    times = signal.ts
    times_us = (times.published_us, times.updated_us, times.ingested_us, available_us)
    return min(at_us for at_us in times_us if at_us is not None)


def in_sample(signal: Signal, available_us: int) -> bool:
    """Return whether the model may have learned from this text; True if unknown.

    A retraction holds no result for its text, so it is never in sample.
    """
    known_us = signal.model.knowledge_until_us
    return signal.label is not None and (known_us is None or text_us(signal, available_us) <= known_us)


class InSampleCheck:
    """Checks every signal of a replay; reports each in-sample model once."""

    def __init__(self, refuse: Callable[[str], Exception] | None = None) -> None:
        """`refuse`: makes the error to raise at the first signal in sample."""
        self.reason: str | None = None  # the first signal in sample gives it
        self.signals = 0  # number in sample
        self._refuse = refuse
        self._reported: set[str] = set()  # sha256 of reported models

    def check(self, signal: Signal, available_us: int) -> None:
        if not in_sample(signal, available_us):
            return
        self.signals += 1
        if signal.model.sha256 not in self._reported:
            self._reported.add(signal.model.sha256)
            self.report(signal.model.id, _reason(signal, available_us))

    def check_rows(self, rows: Any, available_us: Sequence[int], message: Callable[[int], Signal]) -> None:
        """Check rows of an archive (Arrow) until each model has been reported.

        The rows have all columns of a signal. Columns hold the age of a text; how far a model's knowledge reaches is
        read from one `message` of it.
        """
        import pyarrow as pa  # installed wherever Arrow rows exist
        import pyarrow.compute as pc

        models = rows["model_sha256"]
        times = (rows["published_us"], rows["updated_us"], rows["ingested_us"], pa.array(available_us, "int64"))
        earliest_us, labelled = pc.min_element_wise(*times), rows["label"].is_valid()
        for sha256 in models.unique().to_pylist():
            if sha256 in self._reported:
                continue
            own = pc.equal(models, sha256)
            first = pc.index(own, True).as_py()
            with suppress(DecodeError):  # a message of another version, which only the file's writer could decode
                signal = message(first)
                known_us = signal.model.knowledge_until_us
                early = own if known_us is None else pc.and_(own, pc.less_equal(earliest_us, known_us))
                for at in pc.indices_nonzero(pc.and_(early, labelled)).to_pylist()[:1]:
                    self.check(signal if at == first else message(at), available_us[at])

    def report(self, model_id: str, reason: str) -> None:
        """Log why a model is in sample, or raise it."""
        if self._refuse is not None:
            raise self._refuse(f"model {model_id}: {reason}")
        self.reason = self.reason or reason
        log.warning("replay.in_sample", model=model_id, reason=reason)


UNKNOWN = "nobody recorded until when the model's training data reaches (knowledge_until_us)"


def _reason(signal: Signal, available_us: int) -> str:
    known_us = signal.model.knowledge_until_us
    if known_us is None:
        return UNKNOWN
    of, until = written(text_us(signal, available_us)), written(known_us)
    return f"the text of {signal.item_key!r} is of {of}, and the model learned from texts up to {until}"
