"""The demo's promises: what may differ between two runs, and what may not."""

from typing import Any

import pytest

from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import Novelty, Signal
from earlybird.stream.demo.items import DemoRecord, demo_feed
from earlybird.stream.demo.promises import broken_promises, expected
from earlybird.stream.strategies.invented import invented

FEED = demo_feed()
ODD = {record.odd.name: record for record in FEED if record.odd}
COPY, NEAR_COPY, CERTAIN = ODD["syndicated-5"], ODD["near-copy"], ODD["emoji"]
ORIGINAL = next(record for record in FEED if COPY.odd and COPY.odd.of and record.key == COPY.odd.of.encode())


def result(record: DemoRecord, score: float = 0.9, dup_of: str | None = None) -> Signal:
    """A result for this record, from the cache if it names another item."""
    source, _, item = (record.key or b"").decode().partition(":")
    novelty = Novelty(cache_hit=dup_of is not None, dup_of=dup_of)
    return invented(item, record.at_us, score, source=source).model_copy(update={"novelty": novelty})


def key(record: DemoRecord) -> str:
    return (record.key or b"").decode()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (result(ORIGINAL), result(COPY, dup_of=key(ORIGINAL))),
        (result(ORIGINAL), result(COPY)),  # the cache was late
        (result(ORIGINAL, dup_of=key(COPY)), result(COPY)),  # the copy came first
    ],
)
def test_who_computed_a_text_is_not_promised(first: Signal, second: Signal) -> None:
    """A copy has the result of its original, whichever of them went through the model, or both."""
    assert broken_promises([ORIGINAL, COPY], [[first], [second]]) == []


def test_a_copy_may_repeat_an_item_played_before() -> None:
    """Its original need not be among the records that are judged; another item is still another item."""
    assert broken_promises([COPY], [[result(COPY, dup_of=key(ORIGINAL))]]) == []
    (broken,) = broken_promises([COPY], [[result(COPY, dup_of="meridian-wire:n001")]])
    assert broken == "syndicated-5: result expected, was result of meridian-wire:n001"


def test_a_text_that_somebody_else_sent_first_breaks_no_promise() -> None:
    """While the demo runs, a person may type a headline before the feed has it; its feed items are copies then."""
    seen = [[result(ORIGINAL, dup_of="you:1")], [result(COPY, dup_of="you:1")]]
    assert broken_promises([ORIGINAL, COPY], seen, others={"you:1"}) == []
    assert len(broken_promises([ORIGINAL, COPY], seen)) == 2


def test_another_result_for_the_same_text_breaks_the_promise() -> None:
    """The same text, the same bits."""
    (broken,) = broken_promises([ORIGINAL, COPY], [[result(ORIGINAL, 0.9)], [result(COPY, 0.8)]])
    assert "one result expected for all copies, was 2" in broken


def test_the_answer_of_another_text_breaks_the_promise() -> None:
    """A text that only resembles another is not its copy."""
    seen = [[result(ORIGINAL)], [result(NEAR_COPY, dup_of=key(ORIGINAL))]]
    (broken,) = broken_promises([ORIGINAL, NEAR_COPY], seen)
    assert broken == f"near-copy: result expected, was result of {key(ORIGINAL)}"


def test_a_label_beyond_doubt_is_promised() -> None:
    """Few texts of the table have one."""
    assert broken_promises([CERTAIN], [[result(CERTAIN, 0.9)]]) == []
    (broken,) = broken_promises([CERTAIN], [[result(CERTAIN, -0.9)]])
    assert broken == "emoji: positive result expected, was negative result"


@pytest.mark.parametrize("name", ["correction", "deletion", "broken-json", "correction-to-nothing"])
def test_what_is_no_result_is_promised_by_kind(name: str) -> None:
    """A result in the place of a correction, a retraction or a dead letter is none of them."""
    record = ODD[name]
    (broken,) = broken_promises([record], [[result(record)] * expected(record)])
    assert broken.startswith(f"{name}: ") and broken.endswith("was " + ", ".join(["result"] * expected(record)))


def test_a_refusal_for_another_reason_breaks_the_promise() -> None:
    """Every dead letter of the table has its reason."""
    record = ODD["not-json"]
    about: dict[str, Any] = {
        "reason": Reason.BAD_TIME, "detail": "", "raw": result(CERTAIN).raw, "rejected_us": record.at_us,
    }  # fmt: skip
    (broken,) = broken_promises([record], [[Rejection.model_construct(**about)]])
    assert broken == "not-json: dead letter (malformed) expected, was dead letter (bad_time)"
