"""`earlybird views` over four days in less than a minute: what it forgets, and that nothing of it grows for ever.

Only the views' clock is not the machine's, and signals have its time. Kafka is real; its segments are short, so that
it compacts them.
"""

import time
import urllib.request
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
from earlybird.stream.views.topics import ITEMS, SYMBOLS, changelog, views_topics
from earlybird.stream.views.windows import KEPT_US
from views_desk import PARTITIONS, PATIENCE_S, Desk, until, url

pytestmark = pytest.mark.broker

STEPS, STEP_US = 40, 4 * 86_400_000_000 // 40
SHORT = {"segment.ms": "1000", "delete.retention.ms": "100", "min.cleanable.dirty.ratio": "0.01"}
# `earlybird views` with the clock of a file, and pruning as often as such a clock wants it.
BY_FILE = """
import sys
from pathlib import Path
from earlybird.stream import cli
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.views import faust_app

SystemClock.now_us = lambda _: int(Path(sys.argv[1]).read_text())
faust_app._PRUNE_S = 0.5
sys.exit(cli.main(["views"]))
"""


class Days:
    """A clock that is moved, and a worker of the views that goes by it."""

    def __init__(self, desk: Desk, clock: Path, now_us: int) -> None:
        self._clock, self.now_us = clock, now_us
        self.pass_by(0)
        self._desk, self.worker = desk, desk.work(("-c", BY_FILE, str(clock)))

    def pass_by(self, step_us: int) -> None:
        """At once, for a reader of the file."""
        self.now_us += step_us
        part = self._clock.with_suffix(".part")
        part.write_text(str(self.now_us))
        part.rename(self._clock)

    def metric(self, name: str) -> int:
        """Read one of the worker's metrics, over HTTP."""
        with urllib.request.urlopen(f"{url(self.worker)}/metrics", timeout=10) as answer:
            lines = dict(line.split() for line in answer.read().decode().splitlines() if not line.startswith("#"))
        return int(lines[f"earlybird_views_{name}"])


def kept(desk: Desk, now_us: int) -> dict[str, History]:
    """Items with a signal in the last two days."""
    items: dict[str, History] = {}
    for told, at_us in desk.told():
        items.setdefault(told.item_key, History()).add([Mention.of(told, at_us)])
    return {key: item for key, item in items.items() if item.changed_us > now_us - KEPT_US}


def test_days_pass_and_neither_memory_nor_topics_grow(
    new_kafka: Callable[..., Any], unique: Callable[[str], str], start_stage: Callable[..., Any], tmp_path: Path
) -> None:
    """Items of two days stay, in memory and in the changelogs, from which another worker has them again."""
    kafka = new_kafka(**{"log.cleaner.backoff.ms": "100"})
    desk = Desk(kafka.bootstrap_servers, unique, start_stage)
    desk.create("CreateTime")
    views = Views(group=desk.group, topic=desk.topic)
    made = views_topics(views, PARTITIONS)
    create_topics(kafka.bootstrap_servers, [Topic(one.name, PARTITIONS, 1, {**one.config, **SHORT}) for one in made])
    days = Days(desk, tmp_path / "clock", time.time_ns() // 1000 - STEPS * STEP_US)
    days.worker.wait_for("views.assigned", PATIENCE_S)
    for _ in range(STEPS):
        days.pass_by(STEP_US)
        desk.publish(60, days.now_us, reach=200)
        until(lambda: days.metric("signals_total") == desk.sent, lambda: f"{days.metric('signals_total')}, {desk.sent}")
    desk.agree(days.worker, as_of_us=days.now_us)
    items = kept(desk, days.now_us)
    expected = {
        changelog(views, ITEMS): {key.encode() for key in items},
        changelog(views, SYMBOLS): {row_key(symbol, key) for key, item in items.items() for symbol in item.symbols},
    }
    count = sum(map(len, expected.values()))
    until(lambda: days.metric("rows") == count, lambda: f"{days.metric('rows')} rows in memory, not {count}")
    for topic, rows in expected.items():
        until(lambda: desk.live(topic) == rows, lambda: f"{topic}: {len(desk.live(topic))}, not {len(rows)}")  # noqa: B023
        until(lambda: len(desk.records(topic)) < desk.written(topic) / 2)  # noqa: B023
    assert days.worker.end() == 0
    second = Days(desk, tmp_path / "clock", days.now_us)
    desk.agree(second.worker, as_of_us=days.now_us)
    assert second.worker.end() == 0
