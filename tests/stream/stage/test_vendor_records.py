"""A stage that reads vendors' records: signals, corrections, retractions, dead letters, and skips."""

from collections.abc import Callable
from typing import Any

from earlybird.schemas.order import standing
from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds import registry
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.parsing.records import Limits
from earlybird.stream.ports import Commit, Partition, Record
from earlybird.stream.stage.offsets import OffsetTracker
from whole_audit import Audit

P0 = Partition("news.raw", 0)
Worlds = Callable[..., Any]
MakeRecord = Callable[..., Record]


def reader(vendor: str) -> Reader:
    return Reader(Limits(), {"news.raw": registry.parser(vendor)})


def alpaca(headline: str, item_id: int = 1, updated: str = "14:30:01") -> dict[str, Any]:
    times = {"created_at": "2026-01-05T14:30:00Z", "updated_at": f"2026-01-05T{updated}Z"}
    return {"T": "n", "id": item_id, "headline": headline, "symbols": ["NYSE:NRVX"], **times}


def benzinga(action: str, title: str, updated: str = "09:30:00") -> dict[str, Any]:
    content = {"id": 5, "title": title, "updated": f"Mon, 05 Jan 2026 {updated} -0500"}
    return {"kind": "news", "data": {"action": action, "id": 5, "content": content}}


def audited(world: Any, read: Reader, records: list[Record]) -> Audit:
    """The account of a world's raw records."""
    audit = Audit(read=read)
    for record in records:
        audit.add_raw(record)
    for sent in world.sink.sent:
        published = Record(sent.topic, 0, 0, sent.key, sent.value, None, sent.headers)
        (audit.add_rejection if sent.topic == "raw.dlq" else audit.add_signal)(published)
    return audit


def test_frames_are_read_to_their_last_element(worlds: Worlds, make_record: MakeRecord) -> None:
    """Each article has its outcome at its place in the frame; control and keep-alive messages have none."""
    values: list[Any] = [
        [{"T": "success", "msg": "connected"}],
        [alpaca("Norvex lifts full-year outlook"), {"T": "subscription", "news": ["*"]}, alpaca("", 2)],
        b"\x00garbage",
        [alpaca("Norvex cuts full-year outlook", updated="14:41:00")],
        b"\r\n",
        {"news": [], "next_page_token": None},
    ]
    records = [make_record(offset, value) for offset, value in enumerate(values)]
    world = worlds(read=reader("alpaca"))
    world.source.append(records)
    world.finish()
    audit = audited(world, reader("alpaca"), records)
    assert audit.balanced and not audit.strays and not audit.repeated, audit.report()
    first, gone, second = sorted(world.signals, key=lambda signal: (signal.raw.offset, signal.raw.index))
    assert [(each.raw.offset, each.raw.index, each.action) for each in (first, gone, second)] == [
        (1, 0, "new"), (1, 2, "retract"), (3, 0, "new"),
    ]  # fmt: skip
    assert [symbol.model_dump(exclude_none=True) for symbol in first.symbols] == [
        {"symbol": "NRVX", "origin": "provider", "exchange": "NYSE"}
    ]
    assert first.ts.ingested_us == records[1].timestamp_us
    # Alpaca has no word for an edit; its revision says that the second version stands, in whichever order they come.
    assert standing([second, first]) == second and first.label != second.label
    assert sorted((each.raw.offset, each.raw.index, each.reason) for each in world.rejections) == [
        (1, 2, Reason.EMPTY_TEXT), (2, 0, Reason.MALFORMED),
    ]  # fmt: skip
    assert world.source.committed[P0].offset == len(values) and not world.pipeline.in_flight
    page = world.metrics.exposition().decode()
    for reason, count in (("control", 2), ("keep_alive", 1), ("empty", 1)):
        assert f'earlybird_elements_skipped_total{{reason="{reason}",topic="news.raw"}} {count}.0' in page


def test_actions_become_corrections_and_retractions(worlds: Worlds, make_record: MakeRecord) -> None:
    """By the vendor's own word; a version that cannot be read takes back what was said, and the next one stands."""
    values = [
        benzinga("created", "Calder recalls pumps"),
        benzinga("Updated", "Calder recalls no pumps", "09:40:00"),
        benzinga("updated", "", "09:45:00"),
        benzinga("archived", "Calder", "09:46:00"),
        benzinga("updated", "Calder wins large order", "09:50:00"),
        benzinga("removed", "", "09:55:00"),
    ]
    records = [make_record(offset, value) for offset, value in enumerate(values)]
    world = worlds(read=reader("benzinga"))
    world.source.append(records)
    world.finish()
    assert audited(world, reader("benzinga"), records).balanced
    signals = world.signals
    assert [each.action for each in signals] == ["new", "correct", "retract", "retract", "correct", "retract"]
    assert [each.refused for each in signals] == [None, None, "update", "create", None, None]
    assert [each.reason for each in world.rejections] == [Reason.EMPTY_TEXT, Reason.MALFORMED]
    stands = [standing(signals[: number + 1]) for number in range(len(signals))]
    assert stands == [signals[0], signals[1], None, None, signals[4], None]


def test_records_that_are_skipped_whole_are_committed(worlds: Worlds, make_record: MakeRecord) -> None:
    """Between texts that are still computed, too: they are finished when they are read."""
    keep_alive = b"\r\n"
    records = [
        make_record(offset, keep_alive if offset % 2 else [alpaca(f"Norvex opens plant {offset}", offset)])
        for offset in range(9)
    ]
    committed: dict[Partition, Commit] = {}
    world = worlds(committed=committed, read=reader("alpaca"))
    world.source.append(records)
    world.turn()
    world.model.exit(len(world.model.requests) - 1)  # the last article alone
    world.turn(3)
    assert committed[P0].offset == 0
    successor = worlds(committed=committed, read=reader("alpaca"))  # the first one dies here
    successor.source.append(records)
    successor.finish()
    assert committed[P0].offset == 9 and successor.pipeline.offsets.skipped == 5
    assert len(successor.signals) == 4


def test_a_record_without_outcomes_is_finished_at_once() -> None:
    """It holds no commit back, is delivered once."""
    offsets = OffsetTracker()
    offsets.assign({P0: Commit(4)})
    epoch = offsets.epoch(P0)
    assert epoch is not None
    assert offsets.deliver(P0, 4, 0) and offsets.deliver(P0, 5, 1) and offsets.deliver(P0, 6, 0)
    assert not offsets.deliver(P0, 4, 0) and not offsets.deliver(P0, 6, 0)
    assert offsets.progress(P0).low_water == 5 and offsets.unfinished() == 1
    offsets.finish(P0, 5, epoch)
    assert offsets.commits()[P0].offset == 7


class Death(BaseException):
    """As the kernel ends a process."""


def test_a_record_that_ends_its_parser_is_refused(worlds: Worlds, make_record: MakeRecord) -> None:
    """Each successor starts with nothing but the group's commits; the neighbours have their signals."""

    def deadly(value: bytes, received_us: int) -> Any:
        if b"kill" in value:
            raise Death
        return registry.parser("alpaca")(value, received_us)

    words = ["opens plant", "cuts jobs", "kill", "wins order", "lifts outlook"]
    records = [make_record(number, [alpaca(f"Norvex {word}", number)]) for number, word in enumerate(words)]
    committed: dict[Partition, Commit] = {}
    signals, letters, deaths = set[str](), list[Any](), 0
    while committed.get(P0, Commit(0)).offset < len(records):
        world = worlds(committed=committed, read=Reader(Limits(), {"news.raw": deadly}))
        world.source.append(records)
        try:
            for _ in range(20):
                world.finish()
        except Death:
            deaths += 1
        assert deaths < 20
        signals |= {signal.item_key for signal in world.signals}
        letters += world.rejections
    assert signals == {f"alpaca:{number}" for number in (0, 1, 3, 4)}
    assert [(letter.reason, letter.raw.offset) for letter in letters] == [(Reason.POISON, 2)] and deaths


def test_a_house_parser_that_raises_makes_dead_letters(worlds: Worlds, make_record: MakeRecord) -> None:
    """The stage goes on with the next record."""

    def broken(value: bytes, received_us: int) -> Any:
        return registry.parser("alpaca")(value, received_us) if value != b"boom" else [][1]

    world = worlds(read=Reader(Limits(), {"news.raw": broken}))
    world.source.append([make_record(0, b"boom"), make_record(1, [alpaca("Norvex lifts outlook")])])
    world.finish()
    assert [each.reason for each in world.rejections] == [Reason.POISON] and len(world.signals) == 1
    assert world.source.committed[P0].offset == 2
