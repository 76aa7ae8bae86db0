"""Topics and workers of a view, what is published to them, and what one fold over `signals` says of it."""

import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from earlybird.schemas.codec import decode, encode
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.client import Received, Windows
from earlybird.stream.ports import Outgoing, Record
from earlybird.stream.strategies.invented import invented
from earlybird.stream.timeline.availability import available_us
from earlybird.stream.views.windows import SPANS_US

PATIENCE_S = 150.0
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
        self.sent = 0  # signals, copies included

    def create(self, timestamps: str = "LogAppendTime") -> None:
        """The stage's topic; the views create their own."""
        topic = Topic(self.signals, PARTITIONS, 1, {"message.timestamp.type": timestamps})
        create_topics(self.bootstrap_servers, [topic])

    def work(self, command: Sequence[str] = COMMAND) -> Any:
        """A worker of the group. `command`: what the interpreter runs in the place of `earlybird views`."""
        names = {"signals": self.signals, "raw": [{"name": "news.raw"}]}
        settings = {"TOPICS": json.dumps(names), "VIEWS__GROUP": self.group, "VIEWS__TOPIC": self.topic}
        more = {"VIEWS__SESSION_TIMEOUT_MS": "6000"}
        return self._start(self.bootstrap_servers, command, **settings, **more)

    def publish(self, count: int, at_us: int | None = None, reach: int = 10**9) -> None:
        """Signals of which some correct, retract or repeat others; all acknowledged.

        `at_us`: their time, by default now. `reach`: how many items back they correct.
        """
        sink, now_us = KafkaSink(self.bootstrap_servers), at_us or time.time_ns() // 1000
        for number in range(self._published, self._published + count):
            item = self._random.randrange(max(0, number - reach), max(1, number))
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
                sink.send(Outgoing(self.signals, one.item_key.encode(), encode(one), timestamp_us=at_us))
                self.sent += 1
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

    def records(self, topic: str) -> list[Record]:
        """All that a topic has now."""
        tail, found = Tail(self.bootstrap_servers, [topic], start="beginning"), list[Record]()
        ends = tail.ends()
        while not tail.reached(ends):
            found += tail.poll(100)
        tail.close()
        return found

    def live(self, topic: str) -> set[bytes]:
        """Keys of a compacted topic that have a value."""
        last = {record.key or b"": record.value for record in self.records(topic)}
        return {key for key, value in last.items() if value is not None}

    def written(self, topic: str) -> int:
        """How many records a topic has had."""
        tail = Tail(self.bootstrap_servers, [topic], start="beginning")
        ends = tail.ends()
        tail.close()
        return sum(ends.values())

    def told(self) -> list[tuple[Signal, int]]:
        """All signals, and from when each was available."""
        records = [record for record in self.records(self.signals) if (record.value or b"").startswith(b'{"')]
        signals = [decode(Signal, record.value or b"") for record in records]
        return [(one, available_us(record, one)) for record, one in zip(records, signals, strict=True)]

    def oracle(self) -> Windows:
        """The windows over everything that the topic has."""
        windows = Windows()
        for each in self.told():
            windows.apply(Received.of(*each))
        return windows

    def agree(self, *workers: Any, as_of_us: int = 0) -> None:
        """Wait until each worker's every window of every symbol is the oracle's, by default now."""
        windows, as_of_us = self.oracle(), as_of_us or time.time_ns() // 1000
        expected = {
            (symbol, name): {f: getattr(windows.summary(symbol, name, as_of_us=as_of_us), f) for f in FIGURES}
            for symbol in SYMBOLS
            for name in SPANS_US
        }
        found: list[Any] = []

        def same() -> bool:
            found[:] = [self._answers(worker, as_of_us) for worker in workers]
            return all(one == expected for one in found)

        until(same, lambda: f"{[_others(one, expected) for one in found]}\n{self._logs(workers)}")

    def shown(self, released_faults: Any) -> dict[str, int]:
        """Items of the last day by symbol, as the views' topic has them; of two messages the later instant counts."""
        last: dict[str, tuple[int, int]] = {}
        for record in self.records(self.topic):
            if record.value is not None:
                assert not released_faults("sentiment/1", record.value)
                told = json.loads(record.value)
                last[told["symbol"]] = max(
                    last.get(told["symbol"], (0, 0)), (told["as_of_us"], told["windows"][3]["n"])
                )
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

    def _logs(self, workers: Any) -> str:
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
