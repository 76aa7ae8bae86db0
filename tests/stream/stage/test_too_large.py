"""What does not fit into a message: an outcome is replaced by a smaller one, and the publisher goes on."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from earlybird.schemas.identity import digest
from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import SignalAction
from earlybird.stream.errors import RecordTooLarge
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.parsing.records import Limits
from earlybird.stream.ports import Partition, Record
from earlybird.stream.stage.budget import Budget

Worlds = Callable[..., Any]
News = Callable[..., dict[str, Any]]
MakeRecord = Callable[..., Record]

P0 = Partition("news.raw", 0)
MANY = [{"symbol": f"A{number:03}", "origin": "provider", "exchange": "X" * 64} for number in range(512)]


def account(world: Any) -> tuple[list[str], list[str]]:
    """Actions of the signals and reasons of the dead letters."""
    return [signal.action.value for signal in world.signals], [letter.reason.value for letter in world.rejections]


def finish(world: Any) -> None:
    """Let everything out, whatever is refused on the way."""
    world.finish()
    while world.sink.unacknowledged():
        world.turn()
    world.turn(3)


@pytest.mark.parametrize(
    "odd",
    [
        {"lang": "de-" + "x" * 900_000},
        {"item_type": "x" * 900_000},
        {"item_type": "tweet", "metrics": {"x" * 900_000: "a"}},
        {"schema_version": "9" * 900_000},
        {"symbols": [{"symbol": "A", "origin": "provider", "exchange": "X" * 900_000}]},
        {"x" * 400_000: "y" * 500_000, "action": "z" * 100_000},
    ],
)
def test_no_field_makes_a_dead_letter_too_large(
    worlds: Worlds, make_news: News, make_record: MakeRecord, odd: dict[str, Any]
) -> None:
    """The record has its dead letter, whose detail repeats nothing long, and the next one is read."""
    world = worlds()
    world.source.append([make_record(0, make_news("0", "Odd") | odd), make_record(1, make_news("1", "Acme wins"))])
    world.finish()
    assert account(world) == (
        ["retract", "new"],
        ["malformed" if "schema_version" not in odd else "unsupported_schema"],
    )
    assert len(world.rejections[0].detail) < 300


def test_no_key_or_header_makes_an_outcome_too_large(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """A key is cut to its beginning and a header that is no trace context ends here, for signals and dead letters."""
    headers = (("tracestate", b"x" * 998_500), ("traceparent", b"\xc3\x28\xff"))
    good = replace(make_record(0, make_news("0", "Acme wins")), headers=headers)
    bad = replace(make_record(1, b"\x00" * 520_000), headers=(("tracestate", b"x" * 500_000),), key=b"k" * 900_000)
    world = worlds()
    world.source.append([good, bad])
    world.finish()
    assert account(world) == (["new"], ["malformed"])
    assert not {"traceparent", "tracestate"} & {name for sent in world.sink.sent for name, _ in sent.headers}
    (letter,) = world.rejections
    assert (letter.schema_version, letter.key_bytes) == ("1.2", 900_000)
    assert base64.b64decode(letter.key or "") == b"k" * 4_096


def test_valid_trace_context_goes_through(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """From the raw record to its signal and its dead letter."""
    trace = (
        ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", b"rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
    )
    records = [make_record(0, make_news("0", "Acme wins")), make_record(1, b"garbage")]
    world = worlds()
    world.source.append([replace(record, headers=(("x", b"\xff"), *trace)) for record in records])
    world.finish()
    assert [sent.headers[-2:] for sent in world.sink.sent] == [trace, trace]


def test_an_element_has_its_own_bytes_in_its_dead_letter(
    worlds: Worlds, make_news: News, make_record: MakeRecord
) -> None:
    """Published again as it is, it is a record of its own; its neighbours are not repeated."""
    parts = [
        json.dumps(make_news(str(number), "Text", lang="de", body="x" * 900)).encode() + b" " * 10
        for number in range(500)
    ]
    world = worlds(budget=Budget(commit_interval_ms=0))
    world.source.append([make_record(0, b"[ " + b", ".join(parts) + b"]")])
    world.turn(4)
    assert [letter.original_value() for letter in world.rejections] == [part.strip() for part in parts]
    assert {(letter.schema_version, letter.original_scope) for letter in world.rejections} == {("1.2", "element")}
    first = world.rejections[0]
    assert first.original_sha256 == hashlib.sha256(parts[0].strip()).hexdigest()
    assert sum(sent.size for sent in world.sink.sent) < 4 * sum(map(len, parts))


def test_an_array_of_too_many_elements_has_one_dead_letter(worlds: Worlds, make_record: MakeRecord) -> None:
    """Half a million dead letters help nobody."""
    world = worlds()
    world.source.append([make_record(0, b"[" + b"0," * 499_999 + b"0]")])
    world.turn()
    (letter,) = world.rejections
    assert (letter.reason, letter.original_scope) == (Reason.TOO_LARGE, "record")
    assert letter.detail == "array: at most 4,096 elements allowed"


def test_a_turn_reads_what_there_is_room_for(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Fifty records of a hundred texts are fifty turns, and each text has its outcome."""
    value = [make_news(str(number), None, lang="de") for number in range(100)]
    world = worlds(budget=Budget(max_in_flight=100, commit_interval_ms=0))
    world.source.append([make_record(offset, value, key="wire:0") for offset in range(50)])
    taken = []
    while len(world.rejections) < 5_000:
        before = len(world.rejections)
        world.turn(1)
        taken.append(len(world.rejections) - before)
    world.turn(2)
    assert max(taken) <= 200
    assert world.source.committed[P0].offset == 50


def test_records_that_wait_to_be_read_go_with_their_partition(
    worlds: Worlds, make_news: News, make_record: MakeRecord
) -> None:
    """They were never begun: the next owner reads them, once."""
    value = [make_news(str(number), None, lang="de") for number in range(100)]
    records = [make_record(offset, value, key="wire:0") for offset in range(10)]
    first = worlds(budget=Budget(max_in_flight=100, commit_interval_ms=0, revoke_timeout_ms=1))
    first.source.append(records)
    first.turn(2)
    first.source.revoke([P0])
    first.turn(4)
    done = {letter.raw.offset for letter in first.rejections}
    assert 0 < len(done) < 10
    second = worlds(committed=first.source.committed)
    second.source.append(records)
    second.turn(40)
    again = {letter.raw.offset for letter in second.rejections}
    assert done | again == set(range(10)) and len(first.rejections) + len(second.rejections) == 1_000


def test_a_dead_letter_is_cut_to_what_its_topic_takes(worlds: Worlds, make_record: MakeRecord) -> None:
    """The broker does not say how much that is: it is found out once. Position and sha256 are always there."""
    values = [bytes([65 + number]) * 600_000 for number in range(3)]
    world = worlds()
    world.sink.limits["raw.dlq"] = 100_000
    world.source.append([make_record(offset, value, key="k") for offset, value in enumerate(values)])
    finish(world)
    letters = sorted(world.rejections, key=lambda letter: letter.raw.offset)
    assert [letter.raw.offset for letter in letters] == [0, 1, 2]
    for letter, value in zip(letters, values, strict=True):
        original = letter.original_value() or b""
        assert len(original) > 30_000 and value.startswith(original)
        assert (letter.original_bytes, letter.original_sha256) == (600_000, hashlib.sha256(value).hexdigest())


def test_the_least_dead_letter_says_what_and_where(worlds: Worlds, make_record: MakeRecord) -> None:
    """Where the topic takes no more than a kilobyte."""
    world = worlds()
    world.sink.limits["raw.dlq"] = 1_000
    world.source.append([make_record(0, b"[" * 600_000, key="k" * 4_000)])
    finish(world)
    (letter,) = world.rejections
    assert (letter.reason, letter.raw.offset, letter.original) == (Reason.MALFORMED, 0, None)
    assert (letter.original_bytes, len(letter.original_sha256 or "")) == (600_000, 64)


def test_a_topic_that_takes_nothing_ends_the_process_with_its_name(worlds: Worlds, make_record: MakeRecord) -> None:
    """Nothing is lost: the record is read again once the topic is mended."""
    world = worlds()
    world.sink.limits["raw.dlq"] = 10
    world.source.append([make_record(0, b"garbage")])
    with pytest.raises(RecordTooLarge, match=r"raw\.dlq"):
        world.turn(20)
    assert world.source.committed[P0].offset == 0


def test_a_signal_that_its_topic_does_not_take_becomes_a_dead_letter(
    worlds: Worlds, make_news: News, make_record: MakeRecord
) -> None:
    """512 symbols with long exchanges take 60 KB; the texts around it have their signals."""
    world = worlds()
    world.sink.limits["signals"] = 20_000
    texts = [make_news("0", "Acme"), make_news("1", "Bolt", symbols=MANY), make_news("2", "Crane")]
    world.source.append([make_record(offset, text) for offset, text in enumerate(texts)])
    finish(world)
    results = [signal.item_key for signal in world.signals if signal.exit is not None]
    assert results == ["wire:0", "wire:2"] and len(world.signals) == 3  # its item is taken back
    (letter,) = world.rejections
    assert (letter.reason, letter.raw.offset) == (Reason.TOO_LARGE, 1)
    assert "larger than the topic signals takes" in letter.detail
    assert world.source.committed[P0].offset == 3


def test_a_retraction_that_its_topic_does_not_take_leaves_its_symbols_out(
    worlds: Worlds, make_news: News, make_record: MakeRecord
) -> None:
    """A correction, a refused update and a delete: the earlier text must go whatever it was about."""
    world = worlds()
    world.sink.limits["signals"] = 20_000
    texts = [
        make_news("0", "Acme", symbols=MANY, action="update", revision=2),
        make_news("1", None, symbols=MANY, action="update", revision=2, lang="de"),
        make_news("2", None, symbols=MANY, action="delete", revision=2),
    ]
    world.source.append([make_record(offset, text) for offset, text in enumerate(texts)])
    finish(world)
    assert [letter.reason for letter in world.rejections] == [Reason.LANGUAGE, Reason.TOO_LARGE]
    assert sorted(signal.item_key for signal in world.signals) == ["wire:0", "wire:1", "wire:2"]
    for signal in world.signals:
        assert (signal.action, signal.revision, signal.symbols) == (SignalAction.RETRACT, 2, ())
        assert signal.digest == digest(signal.signal_id, None, None, None, ())
    assert world.source.committed[P0].offset == 3


def test_the_largest_signal_fits(worlds: Worlds, make_news: News, make_record: MakeRecord) -> None:
    """Every bounded field at its bound, in characters that JSON writes longest."""
    symbols = [
        {"symbol": f"{number:03}" + "😀" * 29, "origin": "exchange_tag", "exchange": "\x01" * 64, "relevance": 1 / 3}
        for number in range(512)
    ]
    cashtags = [f"{number:03}" + "🙂" * 29 for number in range(512)]
    item = make_news(
        "0", None, item_type="tweet", text="Acme wins", symbols=symbols, cashtags=cashtags, revision=2**63 - 1
    )
    world = worlds(read=Reader(Limits(max_record_bytes=10_000_000, languages=())))
    world.source.append([make_record(0, item | {"lang": "x" * 35, "revision": 2**63 - 1})])
    finish(world)
    (signal,) = world.signals
    assert len(signal.symbols) == 1_024 and signal.revision == 2**63 - 1


def test_what_our_own_code_fails_on_is_told_to_the_dead_letter_alone(
    worlds: Worlds, make_news: News, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception's text may quote the item, and the log must not hold licensed text."""

    def broken(*_: object) -> None:
        raise ValueError("Acme wins")

    monkeypatch.setattr("earlybird.stream.stage.outcome_records.signal_fields", broken)
    world = worlds()
    world.source.append([make_record(0, [make_news("0", "Acme wins")], key="k")])
    with capture_logs() as lines:
        world.finish()
    (letter,) = world.rejections
    assert (letter.reason, letter.detail, letter.original_scope) == (Reason.POISON, "ValueError: Acme wins", "element")
    assert {line["event"] for line in lines} >= {"outcome.failed", "text.rejected"}
    assert "Acme" not in str(lines)
