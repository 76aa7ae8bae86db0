"""Dead letters made raw records again: whole or not at all, and not for ever."""

import base64
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas.codec import encode
from earlybird.schemas.identity import sha256_hex
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import RawPosition
from earlybird.stream.parsing.records import refused_record
from earlybird.stream.ports import Record
from earlybird.stream.publishing.redrive import FROM, REDRIVEN, Filter, Letter, origins, redrive
from earlybird.stream.stage.dead_letter import fitted, rejection_of
from earlybird.stream.stage.messages import Entry

NOW_US = 1_770_000_000_000_000
VALUE = json.dumps({"item_key": "wire:1", "headline": "Acme wins"}).encode()
TRACE = ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
HEADERS = (("feed", b"wire"), TRACE, ("empty", None))
TOPICS = ["news.raw"]


def letter(value: bytes | None = VALUE, kept: int | None = None, **changed: object) -> Letter:
    """A dead letter that keeps so many bytes of its original (default: all)."""
    fields = {
        "reason": Reason.LANGUAGE,
        "detail": "one of en read, was fr",
        "raw": RawPosition(topic="news.raw", partition=1, offset=7),
        "item_key": "wire:1",
        "key": base64.b64encode(b"wire:1").decode(),
        "original": None if value is None else base64.b64encode(value[:kept]).decode(),
        "original_bytes": len(value or b""),
        "original_sha256": None if value is None else sha256_hex(value),
        "rejected_us": NOW_US,
    }
    headers = changed.pop("headers", (("reason", b"language"), TRACE))
    rejection = Rejection(**fields | changed)  # type: ignore[arg-type]
    return Letter.of(Record("raw.dlq", 3, 17, b"wire:1", encode(rejection), headers=headers))  # type: ignore[arg-type]


def raw(value: bytes | None = VALUE, headers: tuple[tuple[str, bytes | None], ...] = HEADERS) -> Record:
    return Record("news.raw", 1, 7, b"wire:1", value, NOW_US, headers)


def test_a_record_that_is_still_there_keeps_key_and_headers() -> None:
    """And says where it comes from and how often."""
    made = redrive(letter(), raw(), topics=TOPICS, tries=3)
    assert made.headers_kept and made.outgoing is not None
    assert (made.outgoing.topic, made.outgoing.key, made.outgoing.value) == ("news.raw", b"wire:1", VALUE)
    kept = (("feed", b"wire"), TRACE, ("empty", b""))
    assert made.outgoing.headers == (*kept, (REDRIVEN, b"1"), (FROM, b"raw.dlq/3/17"))
    assert origins([Record("news.raw", 1, 9, None, None, headers=made.outgoing.headers)]) == {"raw.dlq/3/17"}


def test_without_the_record_the_copy_is_used() -> None:
    """With its trace, which is all that a dead letter has of the headers."""
    made = redrive(letter(), None, topics=TOPICS, tries=3)
    assert made.outgoing is not None and not made.headers_kept
    assert (made.outgoing.key, made.outgoing.value, made.outgoing.headers[0]) == (b"wire:1", VALUE, TRACE)


@given(st.integers(0, len(VALUE) - 1))
def test_a_beginning_is_never_redriven_as_the_whole(kept: int) -> None:
    """Unless the raw topic has the rest."""
    assert redrive(letter(kept=kept), None, topics=TOPICS, tries=3).obstacle == "cut"
    made = redrive(letter(kept=kept), raw(), topics=TOPICS, tries=3)
    assert made.outgoing is not None and made.outgoing.value == VALUE


@pytest.mark.parametrize("other", [VALUE[:-1], VALUE + b" ", b"", None])
def test_another_record_at_the_place_is_not_taken_for_it(other: bytes | None) -> None:
    """A raw topic that was made again counts its offsets anew."""
    assert redrive(letter(kept=5), raw(other), topics=TOPICS, tries=3).obstacle == "cut"
    made = redrive(letter(), raw(other), topics=TOPICS, tries=3)
    assert made.outgoing is not None and made.outgoing.value == VALUE and not made.headers_kept


def test_nothing_left_but_the_hash_is_cut() -> None:
    """So is a record whose key was cut."""
    assert redrive(letter(original=None), None, topics=TOPICS, tries=3).obstacle == "cut"
    cut_key = letter(key_bytes=9_000, schema_version="1.2")
    assert redrive(cut_key, None, topics=TOPICS, tries=3).obstacle == "cut"
    assert redrive(cut_key, raw(), topics=TOPICS, tries=3).outgoing is not None


def test_a_null_record_is_redriven_as_one() -> None:
    made = redrive(letter(None), raw(None), topics=TOPICS, tries=3)
    assert made.outgoing is not None and made.outgoing.value is None


def test_of_an_array_the_refused_element_alone_is_redriven() -> None:
    """Its neighbours have their signals."""
    element = letter(original_scope="element", schema_version="1.2", raw=RawPosition(
        topic="news.raw", partition=1, offset=7, index=1))  # fmt: skip
    made = redrive(element, raw(b'[{"item_key":"wire:0"}, ' + VALUE + b"]"), topics=TOPICS, tries=3)
    assert made.outgoing is not None and made.outgoing.value == VALUE and made.headers_kept
    assert redrive(element, raw(b'[{"item_key":"wire:0"}]'), topics=TOPICS, tries=3).headers_kept is False


def test_a_record_does_not_circle_for_ever() -> None:
    """Counted in the raw record and, where that is gone, in the dead letter; rubbish counts as nothing."""
    assert redrive(letter(), raw(headers=((REDRIVEN, b"3"),)), topics=TOPICS, tries=3).obstacle == "tries"
    assert redrive(letter(headers=((REDRIVEN, b"3"),)), None, topics=TOPICS, tries=3).obstacle == "tries"
    made = redrive(letter(headers=((REDRIVEN, b"-1"),)), raw(headers=((REDRIVEN, b"2"),)), topics=TOPICS, tries=3)
    assert made.outgoing is not None and dict(made.outgoing.headers)[REDRIVEN] == b"3"


@pytest.mark.parametrize(("given", "passed"), [(b"2", True), (b"", False), (b"-2", False), (b"1234", False)])
def test_the_stage_passes_the_count_on(given: bytes, passed: bool) -> None:
    """So it is known when the raw topic no longer holds the record; even the shortest dead letter has it."""
    record = raw(headers=((REDRIVEN, given), TRACE))
    entry = Entry(refused_record(record, Reason.LANGUAGE, "no"), record, 0, NOW_US)
    origin = SimpleNamespace(run_id="live")
    rejection = rejection_of(entry.element, entry, origin, NOW_US)  # type: ignore[arg-type]
    for largest in (100_000, 10):
        _, outgoing = fitted(rejection, entry, "raw.dlq", largest)
        assert (dict(outgoing.headers).get(REDRIVEN) == given) is passed


def test_obstacles_are_named() -> None:
    """Twice from one dead letter, another stage's topic, and bytes that are no dead letter."""
    assert redrive(letter(), raw(), topics=TOPICS, tries=3, done={"raw.dlq/3/17"}).obstacle == "repeated"
    assert redrive(letter(), raw(), topics=["other"], tries=3).obstacle == "foreign"
    assert (
        redrive(Letter.of(Record("raw.dlq", 0, 0, None, b"x")), None, topics=TOPICS, tries=3).obstacle == "unreadable"
    )


def test_filters_choose_by_every_part() -> None:
    """By reason, source, raw topic and place."""
    one, unreadable = letter(), Letter.of(Record("raw.dlq", 0, 0, None, None))
    assert Filter().chooses(one) and Filter().chooses(unreadable)
    assert Filter([Reason.LANGUAGE], ["wire"], ["news.raw"], ["3/17"]).chooses(one)
    for other in (
        Filter([Reason.STALE]),
        Filter(sources=["dow"]),
        Filter(topics=["tweets.raw"]),
        Filter(places=["3/18"]),
    ):
        assert not other.chooses(one) and not other.chooses(unreadable)
