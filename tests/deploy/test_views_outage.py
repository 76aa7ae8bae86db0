"""`earlybird views` over an outage of the broker of a minute: the long form of tests/broker/views."""

import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("faust", reason="NO EXTRA: pip install -e '.[views]'")

from views_desk import Desk, ask, until

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]


def test_the_views_go_on_after_a_minute_without_a_broker(
    new_kafka: Callable[..., Any], unique: Callable[[str], str], start_stage: Callable[..., Any]
) -> None:
    """Both workers, ten sessions long: nothing is answered meanwhile, and all is right again by itself."""
    kafka = new_kafka()
    desk = Desk(kafka.bootstrap_servers, unique, start_stage)
    desk.create()
    workers = [desk.work(), desk.work()]
    desk.publish(1_000)
    desk.agree(*workers)
    kafka.stop()
    until(lambda: all(ask(worker, "/symbols/NVDA")[0] == 503 for worker in workers))
    away_s = time.monotonic() + 60
    while time.monotonic() < away_s:
        assert [ask(worker, "/symbols/NVDA")[0] for worker in workers] == [503, 503]
        assert [ask(worker, "/healthz")[0] for worker in workers] == [200, 200]
        time.sleep(1)
    kafka.start()
    desk.publish(1_000)
    desk.agree(*workers)
    assert [worker.end() for worker in workers] == [0, 0]
