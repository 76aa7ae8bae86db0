"""`earlybird views` on a real Kafka: what any worker answers is what one fold over `signals` gives.

The second worker, the killed one and the paused one belong to one test, since each start takes seconds.
"""

import json
import os
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

pytest.importorskip("faust", reason="NO FAUST: pip install -e '.[views]'")

from earlybird.schemas.codec import decode, encode
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.client import Received, Windows
from earlybird.stream.ports import Outgoing
from earlybird.stream.strategies.invented import invented
from earlybird.stream.timeline.availability import available_us
from earlybird.stream.views.windows import SPANS_US

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

PATIENCE_S = 90.0
SYMBOLS = ("NVDA", "AMD", "NRVX", "QQQ", "TSLA", "BRK.B", "BTC/USD", "META")
PARTITIONS = 4
COMMAND = ("-m", "earlybird.stream.cli", "views")
FIGURES = ("n", "mean", "weighted_mean", "minimum", "maximum", "last", "last_us", "positive", "negative")


class Desk:
    """Topics of one view, what is published to them, and its workers."""

    def __init__(self, bootstrap_servers: str, unique: Callable[[str], str], start: Callable[..., Any]) -> None:
        self.bootstrap_servers, self._start = bootstrap_servers, start
        self.signals, self.group, self.topic = unique("signals"), unique("views"), unique("sentiment")
        self._random = random.Random(7)
        self._published = 0

    def create(self) -> None:
        """The stage's topic; the views create their own."""
        topic = Topic(self.signals, PARTITIONS, 1, {"message.timestamp.type": "LogAppendTime"})
        create_topics(self.bootstrap_servers, [topic])

    def work(self) -> Any:
        """A worker of the group."""
        names = {"signals": self.signals, "raw": [{"name": "news.raw"}]}
        settings = {"TOPICS": json.dumps(names), "VIEWS__GROUP": self.group, "VIEWS__TOPIC": self.topic}
        more = {"VIEWS__SESSION_TIMEOUT_MS": "6000"}
        return self._start(self.bootstrap_servers, COMMAND, **settings, **more)

    def publish(self, count: int) -> None:
        """Signals of which some correct, retract or repeat others; all acknowledged."""
        sink, now_us = KafkaSink(self.bootstrap_servers), time.time_ns() // 1000
        for number in range(self._published, self._published + count):
            item = self._random.randrange(max(1, number))
            kind = self._random.random()
            named = self._random.sample(SYMBOLS, self._random.choice((1, 1, 1, 2, 3)))
            score = round(self._random.uniform(-1, 1), 3)
            if kind < 0.75 or number < 10:
                one = invented(str(number), now_us, score, symbols=named, offset=number)
            elif kind < 0.9:
                revision = self._random.randrange(3)
                action = SignalAction.CORRECT
                one = invented(str(item), now_us, score, symbols=named, revision=revision, action=action, offset=number)
            else:
                one = invented(str(item), now_us, None, symbols=[], action=SignalAction.RETRACT, offset=number)
            for _ in range(2 if kind < 0.05 else 1):
                sink.send(Outgoing(self.signals, one.item_key.encode(), encode(one)))
        self._published += count
        while sink.unacknowledged():
            sink.receipts(50)
        sink.close()

    def leave_gaps(self) -> None:
        """Delete the first record of each partition, and add two transactions, whose markers take offsets."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        for answer in admin.delete_records([TopicPartition(self.signals, n, 1) for n in range(PARTITIONS)]).values():
            answer.result()
        producer = Producer({"bootstrap.servers": self.bootstrap_servers, "transactional.id": self.signals})
        producer.init_transactions()
        for number in range(2):
            producer.begin_transaction()
            for partition in range(PARTITIONS):
                one = invented(f"in-{partition}-{number}", time.time_ns() // 1000, 0.5, symbols=["NVDA"])
                producer.produce(self.signals, encode(one), one.item_key.encode(), partition)
            producer.commit_transaction()

    def behind(self) -> int:
        """How many signals the group has not committed."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": self.group})
        places = consumer.committed([TopicPartition(self.signals, n) for n in range(PARTITIONS)], timeout=10)
        ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
        consumer.close()
        return sum(end - max(place.offset, 0) for place, end in zip(places, ends, strict=True))

    def oracle(self) -> Windows:
        """The windows over everything that the topic has."""
        windows, tail = Windows(), Tail(self.bootstrap_servers, [self.signals], start="beginning")
        ends = tail.ends()
        while not tail.reached(ends):
            for record in tail.poll(100):
                if (record.value or b"").startswith(b'{"'):
                    told = decode(Signal, record.value or b"")
                    windows.apply(Received.of(told, available_us(record, told)))
        tail.close()
        return windows

    def agree(self, *workers: Any) -> None:
        """Wait until each worker's every window of every symbol is the oracle's."""
        windows, as_of_us = self.oracle(), time.time_ns() // 1000
        expected = {
            (symbol, name): {f: getattr(windows.summary(symbol, name, as_of_us=as_of_us), f) for f in FIGURES}
            for symbol in SYMBOLS
            for name in SPANS_US
        }
        found: list[Any] = []

        def same() -> bool:
            found[:] = [self._answers(worker, as_of_us) for worker in workers]
            return all(one == expected for one in found)

        until(same, lambda: f"{[_others(one, expected) for one in found]}\n{self._told(workers)}")

    def shown(self, released_faults: Any) -> dict[str, int]:
        """Items of the last day by symbol, as the views' topic has them; of two messages the later instant counts."""
        last: dict[str, tuple[int, int]] = {}
        tail = Tail(self.bootstrap_servers, [self.topic], start="beginning")
        ends = tail.ends()
        while not tail.reached(ends):
            for record in tail.poll(100):
                assert not released_faults("sentiment/1", record.value or b"{}")
                told = json.loads(record.value or b"{}")
                last[told["symbol"]] = max(
                    last.get(told["symbol"], (0, 0)), (told["as_of_us"], told["windows"][3]["n"])
                )
        tail.close()
        return {symbol: n for symbol, (_, n) in last.items()}

    def _answers(self, worker: Any, as_of_us: int) -> dict[tuple[str, str], dict[str, Any] | None]:
        found: dict[tuple[str, str], dict[str, Any] | None] = {}
        for symbol in SYMBOLS:
            status, told = ask(worker, f"/symbols/{quote(symbol, safe='')}?as_of={as_of_us}us")
            if status != 200:
                return {(symbol, "5m"): told}
            for window in told["windows"]:
                found[symbol, window["window"]] = {figure: window[figure] for figure in FIGURES}
        return found

    def _told(self, workers: Any) -> str:
        return "\n".join(worker.log.read_text(errors="replace")[-1500:] for worker in workers)


def _others(found: dict[Any, Any], expected: dict[Any, Any]) -> dict[Any, Any]:
    """What differs, and how."""
    return {key: (found.get(key), value) for key, value in expected.items() if found.get(key) != value}


def url(worker: Any) -> str:
    return str(worker.wait_for("views.started", PATIENCE_S)["url"])


def ask(worker: Any, path: str) -> tuple[int, Any]:
    """Status and answer; 0 where nobody listens."""
    try:
        with urllib.request.urlopen(url(worker) + path, timeout=10) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
    except (urllib.error.URLError, TimeoutError):
        return 0, None


def until(condition: Callable[[], object], told: Callable[[], str] = str) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, f"never came\n{told()}"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def quick(new_kafka: Callable[..., Any]) -> Any:
    """A broker that gives a dead member's partitions away after six seconds."""
    return new_kafka(**{"log.cleaner.backoff.ms": "100"})


@pytest.fixture
def desk(quick: Any, unique: Callable[[str], str], start_stage: Callable[..., Any]) -> Desk:
    return Desk(quick.bootstrap_servers, unique, start_stage)


def test_answers_are_the_oracles_whatever_becomes_of_workers(desk: Desk, released_faults: Any) -> None:
    """From the first start without topics over a second worker, a pause and a kill to a start from nothing."""
    first = desk.work()
    first.wait_for("topic.awaited", PATIENCE_S)
    desk.create()
    desk.publish(600)
    desk.agree(first)
    page, overview = ask(first, "/symbols?window=1d"), desk.oracle()
    assert {row["symbol"]: row["n"] for row in page[1]["symbols"]} == {
        symbol: n for symbol in SYMBOLS if (n := overview.summary(symbol, "1d").n)
    }
    # A second worker joins under load: no answer ever shows less than what was there before.
    least = {row["symbol"]: row["n"] for row in page[1]["symbols"]}
    second = desk.work()
    second.wait_for("views.assigned", PATIENCE_S)
    desk.publish(400)
    before = time.time_ns() // 1000
    until(lambda: ask(second, "/readyz")[0] == 200)
    for symbol in SYMBOLS:
        for worker in (first, second):
            status, told = ask(worker, f"/symbols/{quote(symbol, safe='')}?window=1d&as_of={before}us")
            assert status == 503 or told["n"] > 0.5 * least[symbol], (status, told)
    desk.agree(first, second)
    owners = [ask(first, f"/symbols/{quote(symbol, safe='')}")[1]["worker"] for symbol in SYMBOLS]
    assert set(owners) == {url(first), url(second)}, "one worker has all"
    assert ask(second, "/symbols?window=1d")[1]["missing"] == []
    # A paused worker has lost its partitions when it goes on, and does not know it.
    os.kill(first.process.pid, signal.SIGSTOP)
    until(lambda: second.events("views.assigned")[-1]["partitions"] == list(range(PARTITIONS)))
    desk.publish(100)
    desk.agree(second)
    told_of = time.time_ns() // 1000
    os.kill(first.process.pid, signal.SIGCONT)
    fresh = desk.oracle()
    for symbol in SYMBOLS:
        status, told = ask(first, f"/symbols/{quote(symbol, safe='')}?window=1d&as_of={told_of}us")
        assert status != 200 or told["n"] == fresh.summary(symbol, "1d", as_of_us=told_of).n
    desk.agree(first, second)
    # A killed worker's symbols are answered by the other one.
    first.end(signal.SIGKILL)
    desk.publish(100)
    desk.agree(second)
    # And with no worker left, the changelogs have all.
    second.end(signal.SIGKILL)
    third = desk.work()
    desk.agree(third)
    windows = desk.oracle()
    expected = {symbol: windows.summary(symbol, "1d").n for symbol in SYMBOLS}
    until(lambda: desk.shown(released_faults) == expected, lambda: f"{desk.shown(released_faults)}, not {expected}")
    assert third.end() == 0


def test_a_question_that_cannot_be_answered_is_told_why(desk: Desk) -> None:
    """Faults of a question, records that are no signals, gaps of offsets, and what is shown of a symbol."""
    desk.create()
    desk.publish(20)
    desk.leave_gaps()
    worker = desk.work()
    sink = KafkaSink(desk.bootstrap_servers)
    for value in (b"no json", b"{}", None):
        sink.send(Outgoing(desk.signals, b"k", value))
    while sink.unacknowledged():
        sink.receipts(50)
    sink.close()
    desk.publish(100)
    desk.agree(worker)
    assert ask(worker, "/symbols/nvda?window=7m") == (
        400,
        {"error": "window: one of 5m, 15m, 1h, 1d expected, was '7m'"},
    )
    assert ask(worker, "/symbols/%20")[0] == 400 and ask(worker, "/symbols/NVDA?as_of=-3d")[0] == 400
    assert (
        ask(worker, "/symbols/NVDA/items?limit=0")[0] == 400
        and ask(worker, "/symbols/BTC-USD")[1]["symbol"] == "BTC/USD"
    )
    assert ask(worker, "/symbols/ZZZZ?window=1d")[1]["n"] == 0
    items = ask(worker, "/symbols/nvda/items?limit=2")[1]
    assert (
        len(items["items"]) == 2 < items["n"] and items["items"][0]["available_us"] >= items["items"][1]["available_us"]
    )
    with urllib.request.urlopen(f"{url(worker)}/metrics") as response:
        metrics = dict(line.split() for line in response.read().decode().splitlines() if not line.startswith("#"))
    assert metrics["earlybird_views_unreadable_total"] == "2" and metrics["earlybird_views_ready"] == "1"
    until(lambda: desk.behind() == 0, lambda: f"{desk.behind()} signals not committed")
    assert worker.end() == 0


@pytest.mark.faults
def test_the_views_go_on_after_the_broker_was_away(
    new_kafka: Callable[..., Any], unique: Callable[[str], str], start_stage: Callable[..., Any]
) -> None:
    """Longer than the session: while it is away nothing is answered as if it were now."""
    kafka = new_kafka()
    desk = Desk(kafka.bootstrap_servers, unique, start_stage)
    desk.create()
    worker = desk.work()
    desk.publish(200)
    desk.agree(worker)
    kafka.stop()
    until(lambda: ask(worker, "/symbols/NVDA")[0] == 503)
    assert ask(worker, "/healthz")[0] == 200 and ask(worker, "/readyz")[0] == 503
    kafka.start()
    desk.publish(200)
    desk.agree(worker)
    assert worker.end() == 0
    kafka.stop()
