"""`earlybird views` over four days in less than a minute: what it forgets, and that nothing of it grows for ever.

Only the views' clock is quick, and signals have its time. Kafka is real; its segments are short, so that it compacts.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faust", reason="NO FAUST: pip install -e '.[views]'")

from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.config.views import Views
from earlybird.stream.views.history import History
from earlybird.stream.views.mention import Mention
from earlybird.stream.views.rows import row_key
from earlybird.stream.views.topics import ITEMS, changelog, views_topics
from earlybird.stream.views.topics import SYMBOLS as BY_SYMBOL
from earlybird.stream.views.windows import KEPT_US
from views_desk import PARTITIONS, Desk, until

pytestmark = [pytest.mark.broker, pytest.mark.timeout(300)]

DAY_US = 86_400_000_000
SECONDS, PACE = 40, 4 * 86_400 // 40
# A clock that stands four days before `end_us` until then, hurries to it, and stops there.
QUICK = """
import sys, time
from earlybird.stream import cli
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.views import faust_app

end_us, pace, days_us = map(int, sys.argv[1:])
SystemClock.now_us = lambda _: end_us - max(0, days_us - pace * max(0, time.time_ns() // 1000 - end_us))
faust_app._PRUNE_S = 0.5
sys.exit(cli.main(["views"]))
"""
SHORT = {"segment.ms": "1000", "delete.retention.ms": "100", "min.cleanable.dirty.ratio": "0.01"}


def resident(worker: Any) -> int:
    """Bytes of memory."""
    return int(Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1]) * 4096


def kept(desk: Desk, end_us: int) -> dict[str, History]:
    """Items with a signal in the last two days."""
    items: dict[str, History] = {}
    for told, at_us in desk.told():
        items.setdefault(told.item_key, History()).add([Mention.of(told, at_us)])
    return {key: item for key, item in items.items() if item.changed_us > end_us - KEPT_US}


def test_days_pass_and_neither_memory_nor_topics_grow(
    new_kafka: Callable[..., Any], unique: Callable[[str], str], start_stage: Callable[..., Any]
) -> None:
    """Items of two days stay, in memory and in the changelogs, from which another worker has them again."""
    kafka = new_kafka(**{"log.cleaner.backoff.ms": "100"})
    desk = Desk(kafka.bootstrap_servers, unique, start_stage)
    desk.create("CreateTime")
    views = Views(group=desk.group, topic=desk.topic)
    made = views_topics(views, PARTITIONS)
    topics = [Topic(one.name, PARTITIONS, 1, {**(one.config or {}), **SHORT}) for one in made]
    create_topics(kafka.bootstrap_servers, topics)
    end_us = time.time_ns() // 1000 + 10_000_000  # until then it starts
    command = ("-c", QUICK, str(end_us), str(PACE), str(4 * DAY_US))
    worker = desk.work(command)
    worker.wait_for("views.assigned", 90)
    sizes: list[int] = []
    while (ahead_us := PACE * (time.time_ns() // 1000 - end_us)) < 4 * DAY_US:
        if ahead_us > 0:
            desk.publish(20, end_us - 4 * DAY_US + ahead_us, reach=200)
        sizes.append(resident(worker))
        time.sleep(0.2)
    desk.agree(worker, as_of_us=end_us)
    items = kept(desk, end_us)
    rows = {row_key(symbol, key) for key, item in items.items() for symbol in item.symbols}
    everything = desk.told()
    print(len(everything), len(items), len(rows))

    def live(topic: str) -> set[bytes]:
        last = {record.key: record.value for record in desk.records(topic)}
        return {key or b"" for key, value in last.items() if value is not None}

    by_item, by_symbol = changelog(views, ITEMS), changelog(views, BY_SYMBOL)
    until(lambda: live(by_item) == {key.encode() for key in items}, lambda: f"{len(live(by_item))}, not {len(items)}")
    until(lambda: live(by_symbol) == rows, lambda: f"{len(live(by_symbol))}, not {len(rows)}")
    for _ in range(10):
        print([len(desk.records(topic)) for topic in (by_item, by_symbol, desk.topic)])
        time.sleep(1)
    print([size >> 20 for size in sizes])
    assert worker.end() == 0
    second = desk.work(command)
    desk.agree(second, as_of_us=end_us)
    assert second.end() == 0
    assert 0
