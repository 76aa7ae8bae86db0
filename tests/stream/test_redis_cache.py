"""The duplicate cache on real servers of the Redis family."""

import math
import struct
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs

from engine.types import Verdict
from schemas.signal import ExitReason
from stream.adapters.redis import PREFIX, RedisCache
from stream.errors import SettingsError
from stream.ports import MINE, PENDING, Answer, Claim, First, Hit, Position

NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000


class Seconds:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def cache(server: Any, seconds: Seconds | None = None, **settings: int) -> RedisCache:
    # Far above any answer of a live server, so that a busy machine cannot make a live one look dead.
    settings = {"ttl_us": HOUR_US, "lease_ms": 60_000, "budget_ms": 2000} | settings
    return RedisCache(server.url, **settings, monotonic=seconds or Seconds())


def claim(key: str = "k", offset: int = 0, at_us: int = NOW_US) -> Claim:
    return Claim(key, f"wire:{offset}", Position("news.raw", 0, offset), at_us)


def first(offset: int = 0, seen_us: int = NOW_US, probs: tuple[float, ...] = (0.1, 0.2, 0.7)) -> First:
    logits = tuple(math.log(p) if p > 0 else -1e30 for p in probs)
    verdict = Verdict(-1, 2, probs, logits, 3, ExitReason.WINDOW, 0.123456789)
    return First(f"wire:{offset}", Position("news.raw", 0, offset), seen_us, verdict)


def hit(answer: Answer) -> Hit:
    assert isinstance(answer, Hit)
    return answer


def test_a_new_text_is_mine_and_another_workers_pending(redis_server: Any) -> None:
    """One worker computes a text; the others are told to wait, it itself never is."""
    ours, theirs = cache(redis_server), cache(redis_server)
    assert ours.claim([claim("a"), claim("b")]) == [MINE, MINE]
    assert theirs.claim([claim("a"), claim("c")]) == [PENDING, MINE]
    assert ours.claim([claim("a"), claim("c")]) == [MINE, PENDING]


def test_a_stored_text_hits_and_counts_its_claims(redis_server: Any) -> None:
    """Every worker is answered with the first item, and with how many claims came before."""
    ours, theirs = cache(redis_server), cache(redis_server)
    ours.claim([claim()])
    ours.store({"k": first()}, {})
    answers = [hit(theirs.claim([claim(offset=offset)])[0]) for offset in (1, 2)]
    answers.append(hit(ours.claim([claim(offset=3)])[0]))
    assert [answer.count for answer in answers] == [1, 2, 3]
    assert {answer.first.item_key for answer in answers} == {"wire:0"}


def test_a_text_that_finds_itself_is_not_counted_again(redis_server: Any) -> None:
    """After a crash a record is read twice; that makes it no duplicate of itself."""
    ours = cache(redis_server)
    ours.store({"k": first(offset=5)}, {})
    assert hit(ours.claim([claim(offset=5)])[0]).first.position.offset == 5
    assert hit(ours.claim([claim(offset=6)])[0]).count == 1


def test_the_first_result_stays(redis_server: Any) -> None:
    """A worker that computed a text anyway does not become its origin."""
    ours, theirs = cache(redis_server), cache(redis_server)
    ours.claim([claim()])
    ours.store({"k": first(offset=0)}, {})
    theirs.store({"k": first(offset=9)}, {})
    assert hit(theirs.claim([claim(offset=10)])[0]).first.position.offset == 0


def test_floats_return_bit_identical(redis_server: Any) -> None:
    """A hit says exactly what the model said: subnormals, negative zero and the last bit included."""
    probs = (5e-324, 0.1 + 0.2, math.nextafter(1.0, 0.0), struct.unpack("f", struct.pack("f", 0.1))[0], -0.0)
    ours = cache(redis_server)
    stored = first(probs=probs)
    ours.store({"k": stored}, {})
    found = hit(ours.claim([claim(offset=1)])[0]).first
    assert found == stored
    bits = [struct.pack("5d", *each.verdict.probs) for each in (found, stored)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize("distance", [-HOUR_US - 1, HOUR_US + 1])
def test_time_to_live_is_judged_on_recorded_instants(redis_server: Any, distance: int) -> None:
    """A replay at any speed and in any direction finds the duplicates that live reading found."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {})
    within = NOW_US + (HOUR_US if distance > 0 else -HOUR_US)
    assert isinstance(ours.claim([claim(offset=1, at_us=within)])[0], Hit)
    assert ours.claim([claim(offset=2, at_us=NOW_US + distance)]) == [MINE]
    ours.store({"k": first(offset=2, seen_us=NOW_US + distance)}, {})
    assert hit(ours.claim([claim(offset=3, at_us=NOW_US + distance)])[0]).first.position.offset == 2


def test_a_lease_that_ended_makes_the_text_mine(redis_server: Any) -> None:
    """A worker that died with a text does not hold it for ever."""
    dead, ours = cache(redis_server, lease_ms=1), cache(redis_server)
    dead.claim([claim()])
    redis = Redis.from_url(redis_server.url)
    for _ in range(2000):
        if not redis.exists(PREFIX + "k"):
            break
    redis.close()
    assert ours.claim([claim()]) == [MINE]


@pytest.mark.parametrize(
    "entry",
    [
        {"first": b"\xff\x00garbage", "seen": NOW_US, "at": "x", "n": 1},
        {"first": b"{}", "seen": NOW_US},
        {"first": b'{"position":[1]}', "seen": NOW_US, "n": "many"},
        {"first": b"{}", "seen": "yesterday"},
        {"seen": NOW_US},
        "a string where a hash should be",
    ],
)
def test_a_corrupt_entry_is_thrown_away_and_replaced(redis_server: Any, entry: Any) -> None:
    """What cannot be read is computed again, and the neighbours in the batch are answered all the same."""
    ours = cache(redis_server)
    redis = Redis.from_url(redis_server.url)
    if isinstance(entry, dict):
        redis.hset(PREFIX + "bad", mapping=entry)
    else:
        redis.set(PREFIX + "bad", entry)
    redis.close()
    ours.store({"good": first()}, {})
    answers = ours.claim([claim("bad"), claim("good", offset=1)])
    assert answers[0] == MINE and isinstance(answers[1], Hit)
    ours.store({"bad": first(offset=7)}, {})
    assert hit(ours.claim([claim("bad", offset=8)])[0]).first.position.offset == 7
    assert ours.failures == 0


@pytest.mark.faults
def test_a_dead_server_is_left_alone_until_a_probe_finds_it_back(redis_server: Any) -> None:
    """Three failures open the breaker; then one call a second is tried, however many are asked for."""
    seconds = Seconds()
    ours = cache(redis_server, seconds)
    assert ours.claim([claim()]) == [MINE]
    redis_server.kill()
    for _ in range(100):
        assert ours.claim([claim("a"), claim("b")]) == [MINE, MINE]
        ours.store({"a": first()}, {})
    assert (ours.failures, ours.calls, ours.skipped) == (3, 4, 197)
    seconds.now += 1.0
    for _ in range(10):
        ours.claim([claim()])
    assert (ours.failures, ours.calls) == (4, 5)
    redis_server.restart()
    seconds.now += 1.0
    ours.store({"a": first()}, {})
    assert isinstance(ours.claim([claim("a", offset=1)])[0], Hit)
    assert ours.failures == 4


@pytest.mark.faults
def test_a_paused_server_costs_its_budget_three_times_and_no_more(redis_server: Any) -> None:
    """A server that hangs is cut off as a dead one is, and its late answers reach nobody."""
    seconds = Seconds()
    ours = cache(redis_server, seconds, budget_ms=20)
    redis_server.pause()
    try:
        for _ in range(100):
            assert ours.claim([claim("a"), claim("b")]) == [MINE, MINE]
        assert ours.calls == ours.failures == 3
    finally:
        redis_server.resume()
    patient = cache(redis_server)
    patient.store({"z": first(offset=4)}, {})
    assert [type(answer) for answer in patient.claim([claim("z", offset=5), claim("new")])] == [Hit, type(MINE)]


@pytest.mark.faults
def test_a_full_server_still_answers_what_it_has(redis_server: Any) -> None:
    """When no memory is left, hits go on, claims are mine, results are dropped and counted, and it is said once."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {})
    redis = Redis.from_url(redis_server.url)
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", "1")
    redis.close()
    assert [type(answer) for answer in ours.claim([claim(offset=1), claim("new")])] == [Hit, type(MINE)]
    with capture_logs() as lines:
        ours.store({"new": first()}, {})
        ours.store({"newer": first()}, {})
    assert (ours.unstored, ours.failures) == (2, 0)
    assert [line["event"] for line in lines] == ["cache.full"]


def test_a_flushed_script_cache_goes_unnoticed(redis_server: Any) -> None:
    """A restarted server knows no scripts; they are sent again."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {})
    redis = Redis.from_url(redis_server.url)
    redis.script_flush()
    redis.close()
    assert isinstance(ours.claim([claim(offset=1)])[0], Hit)
    assert ours.failures == 0


def test_a_url_that_is_none_is_a_setting_error() -> None:
    """Found at start, before anything is read."""
    with pytest.raises(SettingsError, match="Redis URL"):
        RedisCache("localhost", ttl_us=1, lease_ms=1)


def test_nobody_at_the_address_makes_every_text_mine(tmp_path: Any) -> None:
    """A cache that never was there changes nothing but speed."""
    nobody = RedisCache(f"unix://{tmp_path}/none.sock", ttl_us=1, lease_ms=1, monotonic=Seconds())
    assert nobody.claim([claim(), claim("b")]) == [MINE, MINE]
    nobody.store({"k": first()}, {})
    nobody.close()


def test_repeats_are_counted_with_the_result(redis_server: Any) -> None:
    """Items that followed a leader in flight count for the next claim, whether the leader was computed or answered."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {"k": 2, "unknown": 5})
    ours.store({}, {"k": 3})
    assert hit(ours.claim([claim("k", offset=9)])[0]).count == 6
    assert ours.claim([claim("unknown")]) == [MINE]
