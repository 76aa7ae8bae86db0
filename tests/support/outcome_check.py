"""Checks of every promise about the outcomes of one raw record, whatever the record holds."""

from earlybird.engine.text.encoder import Encoded
from earlybird.engine.types import Verdict
from earlybird.schemas.codec import decode
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import ExitReason, Model, Signal
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.adapters.memory import MemorySink
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.parsing.records import Limits, Readable, read
from earlybird.stream.ports import Outgoing, Record
from earlybird.stream.stage.messages import Answer, Answers, Entries, Entry
from earlybird.stream.stage.outcome import Origin
from earlybird.stream.stage.publisher import Publisher
from raw_records import NOW_US
from whole_audit import Audit

NAMES = ("id", "sha256", "profile", "policy", "config_hash", "numerics", "dtype", "device", "code_version")
ORIGIN = Origin(Model.model_validate(dict.fromkeys(NAMES, "x" * 64)), 8, True)
METRICS = Metrics(8)
LARGEST_MESSAGE = 1_000_000
SLACK_BYTES = 8_192  # of an outcome that repeats nothing of its record


def outcomes_of(record: Record, sink: MemorySink) -> list[Outgoing]:
    """What the stage publishes for a record, with a verdict for each text."""
    publisher = Publisher(sink, ORIGIN, "signals.control", ManualClock(NOW_US), METRICS)
    entries = [Entry(element, record, 1, NOW_US) for element in read(record, Limits())]
    answers = []
    for ticket, entry in enumerate(entries):
        if isinstance(entry.element, Readable):
            entry.encoded, entry.ticket, entry.leads = Encoded((1, 2), False, "0" * 64), ticket, True
            verdict = Verdict(ticket, 2, (0.1, 0.2, 0.7), (), 2, ExitReason.WINDOW, 0.5)
            answers.append(Answer(ticket, verdict, NOW_US, NOW_US))
    publisher.inbox.put(Entries(entries))
    publisher.inbox.put(Answers(answers))
    publisher.run_once(0.0)
    while sink.unacknowledged():
        publisher.run_once(0.0)
    publisher.run_once(0.0)
    finished = 0
    while not publisher.finished.empty():
        message = publisher.finished.get_nowait()
        assert isinstance(message, list)
        finished += len(message)
    assert finished == len(entries)
    return sink.sent


def audited(record: Record, sent: list[Outgoing]) -> Audit:
    """The account that `earlybird audit` gives."""
    audit = Audit()
    audit.add_raw(record)
    for outgoing in sent:
        published = Record(outgoing.topic, 0, 0, outgoing.key, outgoing.value, NOW_US, outgoing.headers)
        (audit.add_rejection if outgoing.topic == "raw.dlq" else audit.add_signal)(published)
    return audit


def check(record: Record, sent: list[Outgoing]) -> None:
    """All that is promised of the outcomes of one record."""
    audit = audited(record, sent)
    assert audit.balanced and not audit.strays and not audit.repeated, audit.report()
    for outgoing in sent:
        assert outgoing.size <= LARGEST_MESSAGE
        value = outgoing.value or b""
        message = decode(Rejection, value) if outgoing.topic == "raw.dlq" else decode(Signal, value)
        assert all(value.decode() is not None for _, value in outgoing.headers)
        assert message.raw.index < Limits().max_elements
        if isinstance(message, Rejection):
            assert message.detail.isprintable() and len(message.detail) < 6_000
            whole = message.original_bytes == len(message.original_value() or b"")
            assert whole or message.original_bytes > 512 * 1024
    size = len(record.value or b"") + len(record.key or b"")
    assert sum(outgoing.size for outgoing in sent) <= 8 * size + 2 * SLACK_BYTES * len(audit.raw)
