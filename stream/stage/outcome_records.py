"""Outcome of an entry -> records to produce, smaller where a topic takes less."""

import structlog

from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import SignalAction
from earlybird.stream.errors import RecordTooLarge
from earlybird.stream.parsing.records import Deletion, Readable, Refusal
from earlybird.stream.ports import Clock, Outgoing
from earlybird.stream.stage.dead_letter import fitted, poisoned, rejection_of
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.outcome import (
    Origin,
    bare_retraction,
    fields_record,
    retraction_of,
    signal_fields,
    signal_record,
)

log = structlog.get_logger(__name__)


class OutcomeRecords:
    """Maker of records; notes in `entry.produced` what it made. Not thread-safe: publisher thread only."""

    def __init__(self, origin: Origin, clock: Clock, largest: int) -> None:
        """`largest`: bytes that the dead-letter topic takes, as long as no broker refuses them."""
        self._origin, self._clock, self._largest_letter = origin, clock, largest

    def of(self, entry: Entry) -> list[Outgoing]:
        """Return the records of an answered entry: a signal, a retraction or a dead letter."""
        now_us, origin, element = self._clock.now_us(), self._origin, entry.element
        if isinstance(element, Refusal):
            return self.dead_letter(entry, element)
        if isinstance(element, Deletion):
            retraction = retraction_of(element, entry, origin, now_us)
            entry.produced.append(retraction.model_dump(mode="json"))
            return [signal_record(retraction, entry, origin.signals_topic)]
        answer = entry.answer
        assert answer is not None, "published before its answer. This is a bug."
        if answer.verdict is None:
            return self.dead_letter(entry, poisoned(entry, RuntimeError(answer.error)), attempt=2)
        fields = signal_fields(entry, answer, origin, now_us)
        entry.produced.append(fields)
        return [fields_record(fields, entry, origin.signals_topic)]

    def dead_letter(self, entry: Entry, refusal: Refusal, attempt: int = 1) -> list[Outgoing]:
        """Return the dead letter of a refusal, and the retraction of its item if any."""
        now_us, origin = self._clock.now_us(), self._origin
        rejection, letter = fitted(
            rejection_of(refusal, entry, origin, now_us, attempt), entry, origin.dead_letter_topic, self._largest_letter
        )
        entry.produced = [rejection]
        # Logging each shed text would lengthen a backlog, and a replay writes its dead letters to a file.
        report = log.debug if refusal.reason is Reason.SHED or origin.run_id != "live" else log.info
        poison = refusal.reason is Reason.POISON  # its detail is an exception's text, which may quote the item
        detail = refusal.detail.partition(":")[0] if poison else refusal.detail
        report("text.rejected", reason=refusal.reason.value, detail=detail, position=refusal.position)
        records = [letter]
        if refusal.retraction is not None:
            retraction = retraction_of(refusal.retraction, entry, origin, now_us)
            entry.produced.append(retraction.model_dump(mode="json"))
            records.append(signal_record(retraction, entry, origin.signals_topic))
        return records

    def smaller(self, entry: Entry, refused: RecordTooLarge) -> list[Outgoing]:
        """Return smaller records in place of the refused one.

        For a dead letter: one of at most half the size, since the broker does not report its limit. For a retraction:
        one without symbols. For any other signal: a dead letter with that reason.
        """
        letters = refused.topic == self._origin.dead_letter_topic
        (number,) = (
            number for number, outcome in enumerate(entry.produced) if isinstance(outcome, Rejection) is letters
        )
        outcome = entry.produced[number]
        if isinstance(outcome, Rejection):
            self._largest_letter = min(self._largest_letter, refused.size // 2)
            entry.produced[number], record = fitted(outcome, entry, refused.topic, self._largest_letter)
        elif outcome["action"] == SignalAction.RETRACT:
            entry.produced[number] = bare = bare_retraction(outcome)
            record = fields_record(bare, entry, refused.topic)
        else:
            assert isinstance(entry.element, Readable), "a signal of what was not read. This is a bug."
            detail = f"its signal of {refused.size:,} bytes is larger than the topic {refused.topic} takes"
            return self.dead_letter(entry, entry.element.refused(Reason.TOO_LARGE, detail))
        if record.size >= refused.size:
            raise refused
        return [record]
