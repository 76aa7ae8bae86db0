"""`earlybird views` on a real Kafka: what any worker answers is what one fold over `signals` gives.

The second worker, the killed one and the paused one belong to one test, since each start takes seconds.
"""

import os
import signal
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

pytest.importorskip("faust", reason="NO FAUST: pip install -e '.[views]'")

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.ports import Outgoing
from views_desk import PARTITIONS, PATIENCE_S, SYMBOLS, Desk, ask, until, url

pytestmark = pytest.mark.broker


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
    desk.publish(5_000)
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
    until(lambda: (ask(second, "/symbols?window=1d")[1] or {}).get("missing") == [])  # a slow worker is left out
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
