"""Load-following exits in the stage: which queue counts, and what caches and warnings say."""

import json
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pytest
from structlog.testing import capture_logs

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.types import Verdict
from earlybird.schemas.signal import ExitReason
from earlybird.stream.adapters.cache_codec import EntryCodec, read_first, write_first
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.adapters.memory import MemoryCache
from earlybird.stream.config import settings as settings_module
from earlybird.stream.ports import First, Position
from earlybird.stream.service import warn_of_exits
from earlybird.stream.stage.engine_threads import EngineThreads
from earlybird.stream.stage.messages import Answers, Failed, TimedRequest

LADDER = "load:idle=(fixed:2),busy=(fixed:1),at=4"
NOW_US = 1_770_000_000_000_000
DAY_US = 86_400_000_000


@pytest.fixture(scope="module")
def ladder() -> Engine:
    return Engine.load(EngineConfig(policy=LADDER, runner="packed", device="cpu", slots=1))


def test_an_engine_thread_counts_the_texts_of_its_inbox(ladder: Engine) -> None:
    """Ten texts for one slot: busy from four waiting, until fewer than two wait."""
    said, failed = SimpleQueue[Answers](), SimpleQueue[Failed]()
    threads = EngineThreads(ladder, 1, ManualClock(NOW_US), said.put, failed.put)
    threads.submit([TimedRequest(ticket, (2, 50 + ticket, 3)) for ticket in range(10)])
    threads.start()
    verdicts: dict[int, Verdict] = {}
    while len(verdicts) < 10:
        verdicts |= {answer.ticket: answer.verdict for answer in said.get(timeout=300).answers if answer.verdict}
    threads.close(60.0)
    assert [verdicts[ticket].rung for ticket in range(10)] == [1] * 8 + [0] * 2
    assert all(verdict.exit_layer == (2, 1)[verdict.rung or 0] for verdict in verdicts.values())


@pytest.fixture
def first() -> First:
    verdict = Verdict(-1, 2, (0.1, 0.2, 0.7), (0.0, 0.5, 2.0), 1, ExitReason.FIXED, 0.4, rung=1)
    return First("wire:1", Position("news.raw", 0, 7), NOW_US, verdict)


def test_a_cached_answer_keeps_its_rung(first: First) -> None:
    """And an entry of a policy without rungs has the bytes that it always had."""
    assert read_first(write_first(first)) == first
    plain = replace(first, verdict=replace(first.verdict, rung=None))
    assert b"rung" not in write_first(plain) and read_first(write_first(plain)) == plain


@pytest.mark.parametrize(("rung", "rungs"), [(1, 0), (2, 2), (None, 2), (10**9, 2)])
def test_an_entry_of_a_rung_that_the_policy_lacks_is_no_answer(first: First, rung: int | None, rungs: int) -> None:
    """EntryCodec are untrusted: neither written nor read, though the signature fits."""
    wrong = replace(first, verdict=replace(first.verdict, rung=rung))
    with pytest.raises(ValueError, match="rung"):
        EntryCodec(None, 3, rungs).write("key", wrong)
    entry = EntryCodec(None, 3, 0 if rung is None else rung + 1).write("key", wrong)
    with pytest.raises(ValueError, match="rung"):
        EntryCodec(None, 3, rungs).read("key", b"1 " + entry)


def test_a_duplicate_has_the_answer_and_the_policy_of_the_first(
    ladder: Engine, worlds: Callable[..., Any], make_news: Callable[..., Any], make_record: Callable[..., Any]
) -> None:
    """In flight, and later from the cache, whatever the load is then."""
    cache = MemoryCache(DAY_US)
    live = worlds(engine=ladder, cache=cache)
    live.source.append([make_record(n, make_news(f"n{n}", "Acme wins an order")) for n in range(2)])
    live.turn()
    (request,) = live.model.requests
    live.model.requests = [replace(request, rung=1)]  # as a runner under load would choose
    live.finish()
    live.source.append([make_record(2, make_news("n2", "Acme wins an order"))])
    live.finish()
    assert [(signal.exit.policy, signal.exit.layer) for signal in live.signals] == [("fixed:1", 1)] * 3
    assert [signal.novelty.cache_hit for signal in live.signals] == [False, True, True]


def test_a_number_that_no_queue_can_reach_is_warned_about(ladder: Engine) -> None:
    """Fewer texts may be in flight than would have to wait."""
    settings = settings_module.load()
    few = settings.model_copy(update={"limits": settings.limits.model_copy(update={"max_in_flight": 4})})
    for chosen, events in ((settings, []), (few, ["policy.never_busy"])):
        with capture_logs() as lines:
            warn_of_exits(ladder, chosen)
        assert [line["event"] for line in lines] == events
    assert json.dumps(lines[0]["policy"]) == json.dumps(LADDER)


def test_a_policy_that_lets_nothing_out_early_is_warned_about() -> None:
    """A window as long as the model is deep: every text takes all passes."""
    engine = Engine.load(EngineConfig(policy="cwb:delta=0.0,window=3", runner="packed", device="cpu", slots=1))
    with capture_logs() as lines:
        warn_of_exits(engine, settings_module.load())
    assert [line["event"] for line in lines] == ["policy.never_early"]
