"""Whatever a raw record holds, it has its outcomes, each within a message, and the next one is read."""

from hypothesis import HealthCheck, given, settings

from earlybird.stream.adapters.memory import MemorySink
from earlybird.stream.ports import Record
from outcome_check import check, outcomes_of
from raw_records import raw_records


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(raw_records())
def test_any_record_has_its_outcomes_within_a_message(record: Record) -> None:
    """No field, key, header, nesting, number or array may stop a worker or flood a topic."""
    check(record, outcomes_of(record, MemorySink()))
