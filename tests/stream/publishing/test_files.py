"""Files of texts to raw topics: what lines mean, when they are sent, and that none is lost."""

import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas.raw import RAW
from earlybird.stream import cli
from earlybird.stream.adapters import kafka_sink
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.memory import MemorySink
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.commands import feed
from earlybird.stream.errors import FeedError, SinkError
from earlybird.stream.ports import Outgoing
from earlybird.stream.publishing.field_map import FLAT, FieldMap
from earlybird.stream.publishing.files import FeedFile, merged
from earlybird.stream.publishing.line_format import BadLine, FeedItem, Line, LineFormat
from earlybird.stream.publishing.lines import feed_lines
from earlybird.stream.publishing.publish import Pace, publish
from earlybird.stream.publishing.queries import UnmappableError
from earlybird.stream.publishing.tally import Tally
from earlybird.stream.timeline.instants import feed_us
from earlybird.stream.timeline.merge import Window
from project import ROOT

T0 = 1_700_000_000_000_000
FLAT_LINE = {
    "kind": "news", "text": "Norvex opens plant", "published_at": "2023-11-14T22:13:20Z", "symbols": ["brk-b", "$NRVX"],
    "source": "wire", "id": 7,
}  # fmt: skip

GOOD = [b'{"a":1}', b'{"b":[2]}']


def read(form: LineFormat, content: bytes, place: str = "f:1") -> Line:
    """What a line of one item holds."""
    (line,) = form.lines(content, place)
    return line


def own_line(number: int, at_us: int = T0) -> dict[str, object]:
    return {
        "item_type": "news", "item_key": f"wire:{number}", "source": "wire", "source_item_id": str(number),
        "ingested_us": at_us, "headline": f"Norvex item {number}",
    }  # fmt: skip


def items(numbers: Iterable[int]) -> Iterator[FeedItem]:
    """Of f.jsonl, the lines of these numbers."""
    return (FeedItem(f"f.jsonl:{number}", "news.raw", b"k", b"v", T0) for number in numbers)


def write(path: Path, lines: Iterable[object]) -> Path:
    content = b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    if path.suffix == ".gz":
        content = gzip.compress(content)
    if path.suffix == ".zst":
        content = zstd.compress(content)
    path.write_bytes(content)
    return path


class Time:
    """A clock that moves only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    def passing(self) -> float:
        """It moves by itself, each time it is looked at."""
        self.now_s += 0.1
        return self.now_s


@pytest.mark.parametrize("name", ["feed.jsonl", "feed.jsonl.gz", "feed.jsonl.zst"])
def test_a_file_of_our_own_items_is_published_byte_for_byte(tmp_path: Path, name: str) -> None:
    """Also the fields that this version does not know."""
    lines = [own_line(1) | {"mood": "teal"}, own_line(2)]
    sink = MemorySink()
    tally = publish(merged([FeedFile(write(tmp_path / name, lines))], LineFormat()), sink)
    assert [json.loads(sent.value or b"") for sent in sink.sent] == lines
    assert {(sent.topic, sent.timestamp_us) for sent in sink.sent} == {("news.raw", T0)}
    assert [sent.key for sent in sink.sent] == [b"wire:1", b"wire:2"]
    assert (tally.texts, tally.acknowledged, tally.bad_lines) == (2, 2, 0)


def test_every_bad_line_is_named_with_its_place(tmp_path: Path) -> None:
    """None is dropped silently, none stops the file."""
    lines = [own_line(1), b"{broken", [1], own_line(2) | {"ingested_us": 5}, b"\xff", b"", own_line(3)]
    path = write(tmp_path / "f.jsonl", lines)
    found = list(merged([FeedFile(path)], LineFormat()))
    bad = [line for line in found if isinstance(line, BadLine)]
    assert [line.place for line in bad] == [f"{path}:{number}" for number in (2, 3, 4, 5)]
    assert "no JSON" in bad[0].why
    assert bad[1].why == "an object expected, was int"
    assert "ingested_us" in bad[2].why
    assert len([line for line in found if isinstance(line, FeedItem)]) == 2


def test_files_are_merged_by_the_instant_texts_became_available(tmp_path: Path) -> None:
    """Two feeds recorded side by side are played side by side."""
    first = write(tmp_path / "a.jsonl", [own_line(1, T0), own_line(3, T0 + 20)])
    second = write(tmp_path / "b.jsonl", [own_line(2, T0 + 10), own_line(4, T0 + 30)])
    keys = [
        line.key for line in merged([FeedFile(first), FeedFile(second)], LineFormat()) if isinstance(line, FeedItem)
    ]
    assert keys == [b"wire:1", b"wire:2", b"wire:3", b"wire:4"]


def test_a_flat_research_file_fits_by_preset() -> None:
    """Symbols are canonical, ids strings, a news item's text its headline; the ingest time is marked as assumed."""
    item = read(LineFormat(FieldMap(FLAT), assume_delay_us=2_000_000), json.dumps(FLAT_LINE).encode())
    assert isinstance(item, FeedItem)
    raw = RAW.validate_json(item.value)
    assert (raw.item_key, raw.published_us, raw.ingested_us) == ("wire:7", T0, T0 + 2_000_000)
    assert raw.ingested_origin == "assumed"
    assert [symbol.symbol for symbol in raw.symbols] == ["BRK.B", "NRVX"]
    assert item.topic == "news.raw"


def test_a_line_without_an_id_gets_the_same_one_each_time() -> None:
    """Fed twice, it is the same item and not a second one."""
    form = LineFormat(FieldMap(FLAT), assume_delay_us=0)
    content = json.dumps({name: value for name, value in FLAT_LINE.items() if name != "id"}).encode()
    first, again = read(form, content), read(form, content, "g:9")
    other = read(form, content.replace(b"opens", b"shuts"))
    assert isinstance(first, FeedItem) and isinstance(again, FeedItem) and isinstance(other, FeedItem)
    assert first.key == again.key != other.key


def test_without_an_ingest_time_the_whole_feed_is_refused_unless_a_delay_is_assumed() -> None:
    """When a text could be traded on is never guessed in silence."""
    with pytest.raises(FeedError, match="--assume-delay"):
        LineFormat(FieldMap(FLAT))


def test_a_line_without_an_ingest_time_is_as_bad_as_others(tmp_path: Path) -> None:
    """It is named and the file goes on, whether its lines are raw items or mapped."""
    raw = [own_line(1), own_line(2) | {"ingested_us": None}, own_line(3)]
    form = LineFormat(FieldMap([*FLAT, "ingested_us=seen:us"]))
    mapped = [FLAT_LINE, FLAT_LINE | {"seen": T0}, FLAT_LINE]
    for lines, fits, bad in ((raw, LineFormat(), [2]), (mapped, form, [1, 3])):
        path = write(tmp_path / "f.jsonl", lines)
        found = list(merged([FeedFile(path)], fits))
        complaints = [line for line in found if isinstance(line, BadLine)]
        assert [line.place for line in complaints] == [f"{path}:{number}" for number in bad] and len(found) == 3
        assert all("ingested_us" in line.why for line in complaints)


def test_a_foreign_file_is_refused_before_anything_is_published(tmp_path: Path) -> None:
    """Its first line says that nobody has said where its times are; how to say it comes with the refusal."""
    ours, foreign = write(tmp_path / "a.jsonl", [own_line(1)]), write(tmp_path / "b.jsonl", [b"", {"title": "T"}])
    sink = MemorySink()
    with pytest.raises(FeedError, match=r"b\.jsonl:2: no ingest time\. Map one"):
        publish(merged([FeedFile(ours), FeedFile(foreign)], LineFormat()), sink)
    assert not sink.sent


def test_an_item_without_any_time_is_a_bad_line() -> None:
    """There is nothing to add the delay to."""
    content = json.dumps(FLAT_LINE | {"published_at": None}).encode()
    assert isinstance(read(LineFormat(FieldMap(FLAT), assume_delay_us=0), content), BadLine)


@pytest.mark.parametrize(
    ("given", "form"),
    [
        (1_700_000_000, "s"), ("1700000000", "s"), (1_700_000_000.0, "s"), (1_700_000_000_000, "ms"), (T0, "us"),
        (T0, None), (T0 * 1_000, "ns"), ("2023-11-14T22:13:20Z", None), ("2023-11-15T00:13:20+02:00", "iso"),
        ("2023-11-14 22:13:20", "iso-utc"), ("Tue, 14 Nov 2023 17:13:20 -0500", "rfc2822"),
        ("20231114T221320Z", "%Y%m%dT%H%M%SZ"),
    ],
)  # fmt: skip
def test_one_instant_in_every_notation(given: object, form: str | None) -> None:
    """Providers write the same second in many ways."""
    assert feed_us(given, form) == T0


@given(st.integers(min_value=100_000_000, max_value=4_000_000_000))
def test_units_agree_to_the_microsecond(second: int) -> None:
    """No float in between loses a digit."""
    exact = second * 1_000_000
    assert feed_us(second, "s") == feed_us(second * 1000, "ms") == feed_us(exact * 1000, "ns") == exact


def test_a_wrong_unit_is_named_with_the_right_one() -> None:
    """The commonest mistake of all with times."""
    with pytest.raises(ValueError, match="write :ms if it is an epoch in ms"):
        feed_us(1_700_000_000_000, None)


def test_a_time_without_an_offset_is_not_taken_for_utc() -> None:
    """An hour's error would be look-ahead."""
    with pytest.raises(ValueError, match="no offset from UTC"):
        feed_us("2023-11-14T22:13:20", "iso")


def test_a_record_without_a_source_says_how_to_give_one() -> None:
    """Every key begins with it."""
    with pytest.raises(UnmappableError, match="source='reuters'"):
        FieldMap(["headline=title"]).item({"title": "T"})


@pytest.mark.parametrize(
    ("pace", "due"),
    [(Pace(), [0.0, 0.0, 0.0]), (Pace(speed=10), [0.0, 0.2, 0.5]), (Pace(rate=4), [0.0, 0.25, 0.5])],
    ids=["at once", "ten times as fast", "four a second"],
)
def test_items_leave_when_they_are_due(pace: Pace, due: list[float]) -> None:
    """Paced on recorded times or on a rate, whatever the file's order costs to read."""
    clock, sent = Time(), list[float]()
    items = [FeedItem(f"f:{n}", "news.raw", b"k", b"v", T0 + at_s * 1_000_000) for n, at_s in enumerate((0, 2, 5))]
    publish(
        items, MemorySink(), pace=pace, on_line=lambda _: sent.append(clock.now_s), now_s=clock.now, wait=clock.wait
    )
    assert sent == pytest.approx(due)


def test_an_item_out_of_order_leaves_at_once() -> None:
    """Time does not run backwards for it, and nothing waits."""
    clock, sent = Time(), list[float]()
    items = [FeedItem("f:1", "news.raw", b"k", b"v", T0 + at_s * 1_000_000) for at_s in (0, 4, 1)]
    publish(
        items, MemorySink(), pace=Pace(speed=1), on_line=lambda _: sent.append(clock.now_s), now_s=clock.now,
        wait=clock.wait,
    )  # fmt: skip
    assert sent == pytest.approx([0, 4, 4])


def test_a_limit_ends_an_endless_feed() -> None:
    """And the tally counts what was sent."""
    assert publish(items(itertools.count(1)), MemorySink(), limit=700).sent == {"news.raw": 700}


def test_recorded_feeds_keep_their_time_and_others_may_take_the_present() -> None:
    """The record's own timestamp is what a replay by time looks for."""
    sink = MemorySink()
    publish(items([1]), sink, timestamps="now")
    assert sink.sent[0].timestamp_us is None


def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path) -> None:
    """Missing, or an archive that was cut."""
    with pytest.raises(FeedError, match=r"none\.jsonl: No such file"):
        FeedFile(tmp_path / "none.jsonl")
    cut = write(tmp_path / "cut.jsonl.gz", [own_line(n) for n in range(50)])
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(FeedError, match=r"cut\.jsonl\.gz"):
        list(merged([FeedFile(cut)], LineFormat()))


@pytest.mark.parametrize("name", ["x.zst", "x.gz"])
@pytest.mark.parametrize("damage", ["garbage", "cut", "spoilt"])
def test_a_damaged_archive_is_one_sentence(tmp_path: Path, name: str, damage: str) -> None:
    """Neither a traceback nor, where it was cut between two blocks, an early end."""
    whole = write(tmp_path / name, [own_line(n) | {"body": f"{n * n}" * 50} for n in range(5_000)])
    content = whole.read_bytes()
    middle = len(content) // 2
    whole.write_bytes(
        {"garbage": b"garbage", "cut": content[:middle], "spoilt": content[:middle] + bytes(99) + content[middle:]}[
            damage
        ]
    )
    with pytest.raises(FeedError, match=rf"{name}: ."):
        list(merged([FeedFile(whole)], LineFormat()))


def test_a_zst_file_may_have_several_frames_and_none(tmp_path: Path) -> None:
    """Appended to, or empty: neither is damage."""
    path = write(tmp_path / "two.zst", [own_line(1)])
    path.write_bytes(path.read_bytes() + write(tmp_path / "more.zst", [own_line(2), own_line(3)]).read_bytes())
    assert len(list(merged([FeedFile(path)], LineFormat()))) == 3
    path.write_bytes(b"")
    assert not list(merged([FeedFile(path)], LineFormat()))


class Slow(MemorySink):
    """Acknowledges nothing of its second half."""

    def receipts(self, timeout_ms: int = 0) -> list[object]:
        ready, half = super().receipts(timeout_ms), len(self.sent) // 2
        return [receipt for receipt in ready if isinstance(receipt, int) and receipt < half]


def test_a_stopped_feed_knows_where_to_go_on() -> None:
    """Behind what is acknowledged, in each of its files; what was under way is not waited for without end."""
    lines = [FeedItem(f"{'ab'[number % 2]}:{number + 1}", "news.raw", b"k", b"v", T0) for number in range(8)]
    for sink, acknowledged, places in (
        (MemorySink(), 8, ["a:8", "b:9", "c:1"]),
        (Slow(), 4, ["a:5", "b:6", "c:1"]),
    ):
        clock, tally, sent = Time(), Tally(), list[object]()

        def all_sent(sent: list[object] = sent) -> bool:
            return len(sent) == len(lines)

        publish(
            itertools.cycle(lines), sink, now_s=clock.passing, tally=tally, on_line=sent.append,
            stop=all_sent,
        )  # fmt: skip
        assert (tally.texts, tally.acknowledged, tally.resume("abc")) == (8, acknowledged, places)


def test_a_file_read_to_its_end_is_left_out_unless_the_broker_lacks_something_of_it() -> None:
    """Whoever goes on does not send it again."""
    tally = publish([FeedItem(f"{name}:1", "news.raw", b"k", b"v", T0) for name in "ab"], MemorySink())
    assert (tally.resume([]), tally.resume("b")) == ([], ["b:2"])
    tally.open[0] = ("news.raw", "a:1", 1)
    assert tally.resume("b") == ["b:2", "a:1"]


def test_files_that_share_their_last_part_are_told_apart(tmp_path: Path) -> None:
    """news.jsonl of two years: a place in each, and one in the file of which nothing was sent."""
    paths = []
    for year, numbers in ((2014, range(1000)), (2015, range(500, 3000)), (2016, range(9000, 9010))):
        (tmp_path / str(year)).mkdir()
        path = tmp_path / str(year) / "news.jsonl"
        paths.append(write(path, [own_line(year * 10_000 + number, T0 + number) for number in numbers]))
    files, tally = [FeedFile(path) for path in paths], Tally()
    publish(merged(files, LineFormat()), MemorySink(), tally=tally, stop=lambda: tally.texts == 800)
    assert [file.finished for file in files] == [False, False, False]
    places = tally.resume(file.name for file in files)
    assert places == [f"{paths[0]}:651", f"{paths[1]}:151", f"{paths[2]}:1"]
    for file in files:
        file.close()


def test_nothing_waits_for_its_time_once_a_feed_is_stopped() -> None:
    """The next item may be due in years."""
    sink, clock = MemorySink(), Time()
    lines = [FeedItem(f"f:{n}", "news.raw", b"k", b"v", T0 + at_us) for n, at_us in enumerate((0, 10**15), 1)]
    tally = publish(
        lines, sink, pace=Pace(speed=1), now_s=clock.now, wait=clock.wait, stop=lambda: clock.now_s > 2
    )  # fmt: skip
    assert (len(sink.sent), tally.resume("f")) == (1, ["f:2"])
    assert clock.now_s < 3


def test_a_feed_is_stopped_also_while_the_broker_says_nothing() -> None:
    """What is open stays far below what fills the client: that waits for the broker and for nothing else."""
    sink, clock = MemorySink(), Time()
    sink.hold = True
    tally, patience = Tally(), iter(range(100))
    publish(
        items(itertools.count(1)), sink, now_s=clock.passing, tally=tally,
        stop=lambda: tally.texts == 10_000 and next(patience, None) is None,
    )  # fmt: skip
    assert (tally.texts, tally.acknowledged, tally.resume([])) == (10_000, 0, ["f.jsonl:1"])


class FailingProducer:
    """A client whose deliveries are told by hand: each poll reports one, and the record of number 3 is refused."""

    def __init__(self, settings: object) -> None:
        self._reports: list[tuple[int, Callable[[KafkaError | None, object], None]]] = []
        self._count = 0

    def produce(self, *_: object, on_delivery: Callable[[KafkaError | None, object], None], **__: object) -> None:
        self._count += 1
        self._reports.append((self._count, on_delivery))

    def poll(self, timeout_s: float) -> None:
        if self._reports:
            number, report = self._reports.pop(0)
            report(KafkaError(KafkaError.INVALID_RECORD) if number == 3 else None, None)

    def purge(self) -> None:
        self._reports.clear()

    def flush(self, timeout_s: float) -> None:
        pass


def test_what_was_under_way_is_counted_after_a_failure_and_the_line_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of five are on the topic, and the account says so; the one that is not is where to go on."""
    monkeypatch.setattr(kafka_sink, "Producer", FailingProducer)
    tally = Tally()
    with pytest.raises(SinkError, match=r"^f\.jsonl:3: not delivered: news\.raw: INVALID_RECORD"):
        publish(items(range(1, 6)), KafkaSink("none"), tally=tally)
    assert (tally.texts, tally.acknowledged, tally.resume([])) == (5, 4, ["f.jsonl:3"])


def test_a_sink_that_lost_a_record_says_so_to_whoever_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lost record stays unacknowledged: nobody takes the sink for empty."""
    monkeypatch.setattr(kafka_sink, "Producer", FailingProducer)
    sink = KafkaSink("none")
    for number in range(3):
        sink.send(Outgoing("t", b"k", b"v"), number)
    receipts: list[object] = []
    with pytest.raises(SinkError, match="INVALID_RECORD"):
        while sink.unacknowledged():
            receipts += sink.receipts(50)
    assert receipts == [0, 1]
    with pytest.raises(SinkError, match="INVALID_RECORD"):
        sink.send(Outgoing("t", b"k", b"v"))


@pytest.fixture
def on_ground(monkeypatch: pytest.MonkeyPatch, ground: EmbeddedBroker) -> EmbeddedBroker:
    """The broker that commands under test find in their settings."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", ground.bootstrap_servers)
    return ground


def on_topic(broker: EmbeddedBroker, topic: str) -> int:
    """How many records it has taken."""
    spans = TopicHistory(broker.bootstrap_servers).spans([topic], Window())
    return sum(span.end for span in spans.values())


def fail() -> None:
    raise FeedError("f.jsonl: cut")


@pytest.mark.parametrize(
    ("end", "status"),
    [(partial(signal.raise_signal, signal.SIGINT), 130), (fail, 2)],
    ids=["interrupted", "failed"],
)
@pytest.mark.usefixtures("on_ground")
def test_what_was_published_is_said_however_it_ends(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    end: Callable[[], None],
    status: int,
) -> None:
    """Also at Ctrl-C, while it waits for a line; whoever had the signals before has them back."""

    def lines(*_: object) -> Iterator[FeedItem]:
        yield from items((1, 2, 3))
        end()
        pytest.fail("the wait was not broken off")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(feed, "merged", lines)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert cli.main(["feed", str(write(Path("f.jsonl"), [])), "--timestamps", "now"]) == status
    said = capsys.readouterr().out
    assert said.startswith("published 3 texts (news.raw 3)")
    assert said.endswith("; go on at f.jsonl:4\n")
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


class Interrupted(KafkaSink):
    """A signal comes while the client reports a delivery: what a handler raises there, its C code swallows."""

    def _delivered(self, *report: Any) -> None:
        if report[1] == 7:
            signal.raise_signal(signal.SIGINT)
        super()._delivered(*report)


def test_a_signal_amid_a_delivery_report_is_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_ground: EmbeddedBroker
) -> None:
    """Most of them come there when a feed is fast."""
    monkeypatch.setattr(kafka_sink, "KafkaSink", Interrupted)
    monkeypatch.chdir(tmp_path)
    path = write(Path("f.jsonl"), [own_line(number) for number in range(20_000)])
    assert cli.main(["feed", str(path), "--timestamps", "now"]) == 130
    count = on_topic(on_ground, "news.raw")
    assert 0 < count < 20_000
    out = capsys.readouterr().out
    assert out.startswith(f"published {count:,} texts") and f"; go on at f.jsonl:{count + 1}\n" in out


class Feed:
    """`earlybird feed` as users run it: its own process. Its first file is a pipe that has no end."""

    def __init__(self, folder: Path, *more: str) -> None:
        self.pipe = folder / "endless.jsonl"
        os.mkfifo(self.pipe)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "earlybird.stream.cli", "feed", str(self.pipe), *more, "--timestamps", "now"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def _write(self) -> None:
        with suppress(BrokenPipeError), self.pipe.open("wb") as lines:
            for number in itertools.count():
                lines.write(json.dumps(own_line(number)).encode() + b"\n")

    def end(self, how: int) -> tuple[int, str, str]:
        """Signal it; exit status, stdout and stderr."""
        self.process.send_signal(how)
        out, err = self.process.communicate(timeout=300)
        self._writer.join(60)
        return self.process.returncode, out, err


@pytest.mark.parametrize("how", [signal.SIGINT] * 4 + [signal.SIGTERM] * 2)
def test_a_feed_at_full_speed_ends_on_a_signal_with_its_account(
    tmp_path: Path, on_ground: EmbeddedBroker, until: Callable[[Callable[[], bool]], None], how: int
) -> None:
    """What it says is what the broker has: in the file that it was in, and in the one that it had not come to."""
    later = write(tmp_path / "later.jsonl", [own_line(1, T0 + 1)])
    running = Feed(tmp_path, str(later))
    try:
        until(lambda: running.process.poll() is not None or on_topic(on_ground, "news.raw") > 1_000)
        status, out, err = running.end(how)
    finally:
        running.process.kill()
    count = on_topic(on_ground, "news.raw")
    assert (status, err) == (128 + how, "")
    assert out.startswith(f"published {count:,} texts")
    assert out.endswith(f"; go on at {running.pipe}:{count + 1}, {later}:1\n")


def test_a_second_signal_is_the_end() -> None:
    """Whatever the first is waiting for."""
    code = (
        "import signal; from earlybird.stream.publishing.interruption import Interruption\n"
        "with Interruption() as asked:\n"
        "    signal.raise_signal(signal.SIGTERM); print(asked.came(), flush=True)\n"
        "    signal.raise_signal(signal.SIGINT); print('still here')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert (ran.returncode, ran.stdout) == (-signal.SIGINT, "True\n")


def test_a_line_that_is_too_large_is_as_bad_as_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_ground: EmbeddedBroker
) -> None:
    """It is named, and the rest of the file is published."""
    monkeypatch.chdir(tmp_path)
    lines = [own_line(number) | ({"body": "y" * 1_200_000} if number == 41 else {}) for number in range(1, 51)]
    assert cli.main(["feed", str(write(Path("f.jsonl"), lines)), "--timestamps", "now"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("published 49 texts") and out.endswith("; 1 bad line left out\n")
    assert err.startswith("f.jsonl:41: not delivered: news.raw: MSG_SIZE_TOO_LARGE: 1,200,")
    assert on_topic(on_ground, "news.raw") == 49


def test_bad_lines_are_counted_and_the_rest_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ground: EmbeddedBroker
) -> None:
    """As --help promises: named on stderr, and status 1."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", ground.bootstrap_servers)
    path = write(tmp_path / "f.jsonl", [own_line(1), own_line(2) | {"ingested_us": None}, own_line(3)])
    assert cli.main(["feed", str(path), "--timestamps", "now"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("published 2 texts") and out.endswith("; 1 bad line left out\n")
    assert "f.jsonl:2: ingested_us: none" in err


@pytest.mark.parametrize(
    ("option", "allowed"),
    [("--speed", "a number above 0 or max"), ("--rate", "a number above 0"), ("--limit", "a whole number above 0")],
)
def test_an_option_that_is_no_number_says_what_it_may_be(
    capsys: pytest.CaptureFixture[str], option: str, allowed: str
) -> None:
    """In words of its user."""
    for text in ("fast", "-1"):
        with pytest.raises(SystemExit):
            cli.main(["feed", "f.jsonl", f"{option}={text}"])
        assert f"{allowed} expected, was '{text}'" in capsys.readouterr().err


MAPPED = ["headline=title", "summary=teaser", "source='wire'", "source_item_id=id", "published_us=at:s",
          "symbols=symbols", "lang=lang", "updated_us=edited:s", "vendor_sentiment=mood"]  # fmt: skip
STORY = {"title": "Norvex cuts its forecast", "id": 1, "at": 1_700_000_000}


def mapped(**changed: object) -> Any:
    """The raw item of a foreign line, or what is wrong with it."""
    line = json.dumps(STORY | changed).encode()
    item = read(LineFormat(FieldMap(MAPPED), assume_delay_us=0), line)
    return RAW.validate_json(item.value) if isinstance(item, FeedItem) else getattr(item, "why", None)


@pytest.mark.parametrize("title", ["", None])
def test_news_without_a_headline_is_news_with_its_summary(title: str | None) -> None:
    """What a line is, the map says; an empty field makes no tweet of it."""
    news = mapped(title=title, teaser="Norvex sees less demand")
    assert (news.item_type, news.headline, news.summary) == ("news", None, "Norvex sees less demand")


def test_a_line_without_any_text_is_a_bad_one() -> None:
    """It would be a dead letter; here whoever feeds it learns of it. A deletion needs no text."""
    assert mapped(title=" ", teaser=None) == "no text: nothing in headline, summary, body"
    deletes = LineFormat(FieldMap([*MAPPED, "action='delete'"]), 0)
    assert isinstance(read(deletes, json.dumps({"id": 1, "at": 1.7e9}).encode()), FeedItem)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([{"name": "NRVX", "exchange": "XNAS"}, {"Ticker": "brk-b"}], ["NRVX", "BRK.B"]),
        ({"symbol": "NRVX"}, ["NRVX"]),
        ("A;B", ["A", "B"]), ("A, B|C  D", ["A", "B", "C", "D"]), (["A,B", "$A"], ["A", "B"]),
        (["BRK B", "AAPL US Equity", " "], ["BRK.B", "AAPL.US.EQUITY"]), ([{"name": "BRK B"}], ["BRK.B"]),
        ([None, ""], []), (7203, ["7203"]),
    ],
)  # fmt: skip
def test_symbols_are_read_as_they_are_meant(given: object, names: list[str]) -> None:
    """Objects that hold a name, and lists in one text."""
    found = mapped(symbols=given).symbols
    assert [symbol.symbol for symbol in found] == names
    assert [symbol.exchange for symbol in found if symbol.symbol == "NRVX" and isinstance(given, list)] in (
        [],
        ["XNAS"],
    )


@pytest.mark.parametrize("given", [[{"isin": "US0000000000"}], [["A"]], [True], 1.5])
def test_symbols_that_cannot_be_told_are_named_and_not_invented(given: object) -> None:
    """Never the text of an object as a symbol."""
    assert mapped(symbols=given).startswith("symbols: ")


def test_what_is_no_time_and_no_figure_costs_no_line() -> None:
    """Reddit says `edited: false`, vendors say `positive`."""
    assert mapped(edited=False).updated_us is None
    assert mapped(edited=1_700_000_009).updated_us == T0 + 9_000_000
    assert [mapped(mood=mood).vendor_sentiment for mood in ("positive", "0.3", 1, {"x": 1})] == [None, 0.3, 1.0, None]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("English", "en"), ("eng", "en"), ("en-US", "en-US"), ("English (United States)", "en"), ("GERMAN", "de"),
        ("deu", "de"), ("ger", "de"), ("Klingon", None), ("und", None), ("qct", None), ("", None), (["en"], "en"),
    ],
)  # fmt: skip
def test_names_of_languages_are_understood_or_unknown(given: object, code: str | None) -> None:
    """GDELT's `English` is no reason to lose every item."""
    assert mapped(lang=given).lang == code


def pretty(value: object) -> bytes:
    return json.dumps(value, indent=2).encode()


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (pretty(own_line(1)), [1]),
        (pretty([own_line(number) for number in range(3)]), [2, 10, 18]),
        (pretty(own_line(1)) + b"\n" + pretty(own_line(2)), [1, 9]),
        (json.dumps(own_line(1)).replace(", ", ",\n ").encode(), [1]),
        (b"\xef\xbb\xbf" + json.dumps(own_line(1)).encode() + b"\n" + json.dumps(own_line(2)).encode(), [1, 2]),
        (b"\xef\xbb\xbf" + pretty(own_line(1)), [1]),
        (b"[\n" + b",\n".join(json.dumps(own_line(n)).encode() for n in range(3)) + b"\n]\n", [2, 3, 4]),
    ],
    ids=["object", "array", "several", "wrapped", "mark", "mark and object", "array of lines"],
)
def test_files_that_were_written_for_eyes_are_read(tmp_path: Path, content: bytes, lines: list[int]) -> None:
    """Pretty-printed objects, an array of them, and the mark before UTF-8, which is no part of the first line."""
    (tmp_path / "f.json").write_bytes(content)
    found = list(merged([FeedFile(tmp_path / "f.json")], LineFormat()))
    assert [getattr(line, "why", "") for line in found] == [""] * len(lines)
    assert [int(line.place.rpartition(":")[2]) for line in found] == lines
    assert all(isinstance(line, FeedItem) and line.value.startswith(b"{") for line in found)


def test_a_lone_bracket_spoils_no_line_after_it(tmp_path: Path) -> None:
    """A file whose first line was cut is not taken for a document to its end."""
    found = list(merged([FeedFile(write(tmp_path / "f.jsonl", [b"{", own_line(1), own_line(2)]))], LineFormat()))
    assert [isinstance(line, FeedItem) for line in found] == [False, True, True]


@given(st.lists(st.sampled_from([b"{", b"[", b"}", b'{"a": 1,', b"]", b"\xff", b'"', b"", *GOOD]), max_size=12))
def test_no_line_of_its_own_is_lost_behind_others(lines: list[bytes]) -> None:
    """Whatever brackets and halves come before it, a line that is an object is given."""
    given_lines = [content for _, content in feed_lines(line + b"\n" for line in lines)]
    alone = [line for line in lines if line in GOOD]
    nested = b"\n".join(given_lines)
    assert all(nested.count(line) >= alone.count(line) for line in alone)


def test_a_date_in_the_future_costs_its_own_line_alone(tmp_path: Path) -> None:
    """A broker refuses such records, which would end the feed; and other files would wait for its time."""
    first = write(tmp_path / "a.jsonl", [own_line(1, T0), own_line(2, T0 * 2), own_line(3, T0 + 2)])
    second = write(tmp_path / "b.jsonl", [own_line(4, T0 + 1)])
    found = list(merged([FeedFile(first), FeedFile(second)], LineFormat()))
    assert [line.key for line in found if isinstance(line, FeedItem)] == [b"wire:1", b"wire:4", b"wire:3"]
    assert [line.why for line in found if isinstance(line, BadLine)] == [
        f"ingested_us: more than an hour ahead of now, was {T0 * 2}"
    ]


def test_a_live_feed_is_stamped_as_it_arrives() -> None:
    """Observed, not assumed; a time that the feed has of its own stays."""
    form = LineFormat(FieldMap([*MAPPED, "ingested_us=seen:s"]), ingested_now=True, now_us=lambda: T0 + 5)
    stamped, own = (read(form, json.dumps(STORY | seen).encode()) for seen in ({}, {"seen": 1_700_000_000}))
    assert isinstance(stamped, FeedItem) and isinstance(own, FeedItem)
    assert (stamped.at_us, RAW.validate_json(stamped.value).ingested_origin) == (T0 + 5, "observed")
    assert own.at_us == T0


def test_a_file_does_not_arrive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its texts were there before: to date them now would be false."""
    path = write(tmp_path / "f.jsonl", [own_line(1)])
    assert cli.main(["feed", str(path), "--ingested", "now"]) == 2
    assert "only what comes through a pipe" in capsys.readouterr().err


def test_the_account_adds_up() -> None:
    """What is published is what the broker has; the rest is told beside it."""
    tally = Tally(bad_lines=2, seconds=1.0)
    for number in range(11):
        tally.send("news.raw" if number % 2 else "tweets.raw", f"f:{number + 1}")
    tally.settle([1, 3, 4])
    assert str(tally) == (
        "published 3 texts (news.raw 2, tweets.raw 1) in 1.0 s, 11 texts/s; 8 more sent and not acknowledged; "
        "2 bad lines left out"
    )
