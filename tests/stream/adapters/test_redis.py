"""The duplicate cache on real servers of the Redis family."""

import json
import math
import random
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
from redis import Redis
from redis._parsers.base import BaseParser
from structlog.testing import capture_logs

from earlybird.engine.types import Verdict
from earlybird.schemas.signal import Exit, ExitReason, Novelty, Probabilities
from earlybird.stream.adapters.cache_codec import EntryCodec, write_first
from earlybird.stream.adapters.redis import PREFIX, RedisCache
from earlybird.stream.adapters.redis_link import explained
from earlybird.stream.errors import SettingsError
from earlybird.stream.ports import ACQUIRED, HELD_ELSEWHERE, Claim, ClaimResult, First, Hit, Position

NOW_US = 1_700_000_000_000_000
HOUR_US = 3_600_000_000
LAYERS = 8
HEADER = b"1700000000000000 news.raw/0/0/0"


class Seconds:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def cache(server: Any, seconds: Seconds | None = None, url: str = "", **settings: Any) -> RedisCache:
    # Far above any answer of a live server, so that a busy machine cannot make a live one look dead.
    settings = {"ttl_us": HOUR_US, "lease_ms": 60_000, "max_layers": LAYERS, "budget_ms": 30_000} | settings
    return RedisCache(url or server.url, **settings, monotonic=seconds or Seconds())


def claim(key: str = "k", offset: int = 0, at_us: int = NOW_US) -> Claim:
    return Claim(key, f"wire:{offset}", Position("news.raw", 0, offset), at_us)


def first(offset: int = 0, seen_us: int = NOW_US, probs: tuple[float, ...] = (0.1, 0.2, 0.7)) -> First:
    logits = tuple(math.log(p) if p > 0 else -1e30 for p in probs)
    verdict = Verdict(-1, 2, probs, logits, 3, ExitReason.WINDOW, 0.123456789)
    return First(f"wire:{offset}", Position("news.raw", 0, offset), seen_us, verdict)


def signed(key: str, content: bytes, secret: str | None = None, header: bytes = HEADER) -> bytes:
    """An entry with this content, as somebody who knows the format and this secret writes it."""
    return b"1 %b %b %b" % (header, EntryCodec(secret, LAYERS)._signature(key, content), content)


def entry(key: str, secret: str | None = None, **fields: Any) -> bytes:
    """The entry of `first()` with other values in some fields, and a header that goes with them."""
    content = json.loads(write_first(first())) | fields
    place = content["position"]
    named = "/".join(map(str, place)) if isinstance(place, list) and place and " " not in str(place[0]) else "x/0/0/0"
    return signed(key, json.dumps(content).encode(), secret, f"{content['seen_us']} {named}".encode())


def plant(server: Any, key: str, value: Any, px: int | None = None) -> None:
    """What somebody else wrote there."""
    with Redis.from_url(server.url) as redis:
        redis.delete(PREFIX + key)
        if isinstance(value, list):
            redis.rpush(PREFIX + key, *value)
        else:
            redis.set(PREFIX + key, value, px=px)


def text_at(server: Any, key: str) -> bytes:
    """What is there."""
    with Redis.from_url(server.url) as redis:
        text: bytes = redis.getrange(PREFIX + key, 0, -1)
        return text


def time_to_live(server: Any, key: str) -> int:
    """In ms; below 0: for ever."""
    with Redis.from_url(server.url) as redis:
        ms: int = redis.pttl(PREFIX + key)
        return ms


def hit(answer: ClaimResult) -> Hit:
    assert isinstance(answer, Hit)
    return answer


def test_a_new_text_is_mine_and_another_workers_pending(redis_server: Any) -> None:
    """One worker computes a text; the others are told to wait, it itself never is."""
    ours, theirs = cache(redis_server), cache(redis_server)
    assert ours.claim([claim("a"), claim("b")]) == [ACQUIRED, ACQUIRED]
    assert theirs.claim([claim("a"), claim("c")]) == [HELD_ELSEWHERE, ACQUIRED]
    assert ours.claim([claim("a"), claim("c")]) == [ACQUIRED, HELD_ELSEWHERE]


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
    probs = (5e-324, struct.unpack("f", struct.pack("f", 0.1))[0], math.nextafter(0.9, 0.0))
    ours = cache(redis_server)
    stored = first(probs=probs)
    ours.store({"k": stored}, {})
    found = hit(ours.claim([claim(offset=1)])[0]).first
    assert found == stored
    bits = [struct.pack("6d", *each.verdict.probs, *each.verdict.logits) for each in (found, stored)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize("distance", [-HOUR_US - 1, HOUR_US + 1])
def test_time_to_live_is_judged_on_recorded_instants(redis_server: Any, distance: int) -> None:
    """A replay at any speed and in any direction finds the duplicates that live reading found."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {})
    call_with_timeout = NOW_US + (HOUR_US if distance > 0 else -HOUR_US)
    assert isinstance(ours.claim([claim(offset=1, at_us=call_with_timeout)])[0], Hit)
    assert ours.claim([claim(offset=2, at_us=NOW_US + distance)]) == [ACQUIRED]
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
    assert ours.claim([claim()]) == [ACQUIRED]


@pytest.mark.parametrize(
    "value",
    [
        b"\xff\x00garbage",
        b"1 2 3",
        b"1 1700000000000000 news.raw/0/0/0 ",
        b"1 1700000000000000 news.raw/0/0/0 0000 {}",
        b"1 1700000000000000 news.raw/0/0/0 " + b"x" * 1_000_000,
        b"9" * 400 + b" 1700000000000000 news.raw/0/0/0 x y",
        b"?",
        ["a list where a string should be"],
    ],
    ids=lambda _: "",
)
def test_what_is_no_entry_is_thrown_away_and_replaced(redis_server: Any, value: Any) -> None:
    """It is a miss, counted; its neighbours in the batch are answered all the same."""
    ours = cache(redis_server)
    plant(redis_server, "bad", value)
    ours.store({"good": first()}, {})
    answers = ours.claim([claim("bad"), claim("good", offset=1)])
    assert answers[0] == ACQUIRED and isinstance(answers[1], Hit)
    assert (ours.bad, ours.misses, ours.hits, ours.failures) == (1, 1, 1, 0)
    ours.store({"bad": first(offset=7)}, {})
    assert hit(ours.claim([claim("bad", offset=8)])[0]).first.position.offset == 7


NESTED = "[" * 1000 + "]" * 1000
FOREIGN: dict[str, Any] = {
    "probs": [
        [0.5, 0.5], [0.25] * 4, [0.1, 0.2, 0.6], [0.4, 0.7, -0.1], [0.5, 0.5, 1.5], ["0.1", "0.2", "0.7"], None, 1,
    ],
    "logits": [[0.0], ["a", "b", "c"], None],
    "label": [0, 3, -1, 1.5, "2", None, True, 10**400],
    "layer": [0, -3, LAYERS + 1, 2.5, "3", 10**30],
    "reason": ["deadline", "because", "", None, 7, "last_layer"],
    "puzzlement": [-0.1, 1.1, "0.5", None],
    "seen_us": [5, 0, -1, 10**15 * 5, 1.7e15, "1700000000000000", 10**40],
    "item_key": ["", "x" * 513, "wire:1\n", "wire:\x1b[31m", "wire:\u202e", 5, None],
    "position": [
        [], ["news.raw", 0, 0], ["", 0, 0, 0], ["a b", 0, 0, 0], ["news.raw", -1, 0, 0], ["news.raw", 0, 2**63, 0],
        ["news.raw", 0, 0, -1], ["news.raw", 0.5, 0, 0], ["n" * 250, 0, 0, 0], "news.raw/0/0/0", None,
    ],
}  # fmt: skip


@pytest.mark.parametrize("field", FOREIGN)
def test_an_entry_that_says_what_no_signal_may_is_thrown_away(redis_server: Any, field: str) -> None:
    """Whoever can write to Redis can compute a checksum: what is signed is checked like a raw record all the same."""
    ours = cache(redis_server)
    for value in FOREIGN[field]:
        plant(redis_server, "k", entry("k", **{field: value}))
        assert ours.claim([claim(offset=1)]) == [ACQUIRED], value
        assert text_at(redis_server, "k") == b"? " + ours._token.encode(), value
    assert ours.hits == 0 and ours.failures == 0


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 2000, NESTED.encode(), b'{"label":' + NESTED.encode() + b"}", b"{}", b"null", b'"x"', b"\xff", b"1e999",
        b"{" * 2000,
    ],
    ids=lambda _: "",
)  # fmt: skip
def test_a_signed_entry_of_another_shape_is_thrown_away(redis_server: Any, content: bytes) -> None:
    """Deep nesting ends no worker."""
    ours = cache(redis_server)
    plant(redis_server, "k", signed("k", content))
    assert ours.claim([claim(offset=1)]) == [ACQUIRED]
    assert (ours.bad, ours.failures) == (1, 0)
    assert text_at(redis_server, "k") == b"? " + ours._token.encode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"puzzlement":0.123456789', b'"puzzlement":NaN'),
        (b'"layer":3', b'"layer":Infinity'),
        (b'"puzzlement":0.123456789', b'"puzzlement":1e999'),
        (b'"wire:0"', b'"wire:\\ud800"'),
        (b"-2.3025850929940455", b"-Infinity"),
    ],
    ids=lambda _: "",
)
def test_numbers_and_texts_that_json_cannot_hold_are_thrown_away(redis_server: Any, old: bytes, new: bytes) -> None:
    """Not-a-number, infinities and half a surrogate pair."""
    ours = cache(redis_server)
    content = write_first(first())
    assert old in content
    plant(redis_server, "k", signed("k", content.replace(old, new)))
    assert ours.claim([claim(offset=1)]) == [ACQUIRED]
    assert (ours.bad, ours.failures) == (1, 0)


@pytest.mark.parametrize("count", [b"0", b"-5", b"inf", b"nan", b"1e30", b"9" * 17, b"1.5", b"0x10", b""])
def test_a_count_that_is_none_is_thrown_away(redis_server: Any, count: bytes) -> None:
    """It would become the `dup_count` of a signal."""
    ours = cache(redis_server)
    plant(redis_server, "k", count + entry("k").removeprefix(b"1"))
    assert ours.claim([claim(offset=1)]) == [ACQUIRED]
    assert (ours.bad, ours.hits, ours.failures) == (1, 0, 0)


def test_many_bad_entries_cost_one_line_and_one_call_more(redis_server: Any) -> None:
    """A burst of them floods neither the log nor the budget."""
    seconds = Seconds()
    ours = cache(redis_server, seconds)
    for number in range(100):
        plant(redis_server, f"k{number}", entry(f"k{number}", label=0))
    with capture_logs() as lines:
        assert ours.claim([claim(f"k{number}", offset=1) for number in range(100)]) == [ACQUIRED] * 100
    assert (ours.bad, ours.calls) == (100, 2)
    assert [line["event"] for line in lines] == ["cache.bad_entry"]
    seconds.now += 60
    plant(redis_server, "k", entry("k", label=0))
    with capture_logs() as lines:
        ours.claim([claim()])
    assert [line["bad"] for line in lines] == [101]


def test_a_secret_lets_no_verdict_in_but_its_own(redis_server: Any) -> None:
    """A false verdict that is well formed: signed with nothing, with another secret, or taken from another text."""
    ours, theirs = cache(redis_server, secret="s" * 16), cache(redis_server, secret="t" * 16)
    for forged in (entry("k"), entry("k", secret="t" * 16)):
        plant(redis_server, "k", forged)
        assert ours.claim([claim(offset=1)]) == [ACQUIRED]
    ours.store({"other": first()}, {})
    plant(redis_server, "k", text_at(redis_server, "other"))
    assert ours.claim([claim(offset=1)]) == [ACQUIRED]
    assert ours.bad == 3
    assert isinstance(ours.claim([claim("other", offset=1)])[0], Hit)
    assert theirs.claim([claim("other", offset=1)]) == [ACQUIRED]


def test_what_could_not_be_read_again_is_not_written(redis_server: Any) -> None:
    """A first item whose key is not for eyes: its text is computed each time."""
    ours = cache(redis_server)
    ours.store({"k": replace(first(), item_key="wire:\x1b")}, {})
    assert ours.claim([claim(offset=1)]) == [ACQUIRED]
    assert ours.bad == 0


@pytest.mark.parametrize("left_ms", [None, 3_600_000])
def test_a_claim_without_an_end_is_taken_over(redis_server: Any, left_ms: int | None) -> None:
    """Nobody holds a text back for longer than our own lease, whatever wrote the claim."""
    ours = cache(redis_server)
    plant(redis_server, "k", b"? somebody", px=left_ms)
    assert ours.claim([claim()]) == [ACQUIRED]
    assert cache(redis_server).claim([claim()]) == [HELD_ELSEWHERE]
    assert 0 < time_to_live(redis_server, "k") <= 60_000


def test_nothing_of_ours_is_without_a_time_to_live(redis_server: Any) -> None:
    """Claims, results, and results that were counted up; a foreign entry has one once it was counted up."""
    ours = cache(redis_server)
    ours.claim([claim("claimed"), claim("stored")])
    ours.store({"stored": first()}, {"stored": 1})
    plant(redis_server, "foreign", entry("foreign"))
    assert [type(one) for one in ours.claim([claim("stored", 1), claim("foreign", 1)])] == [Hit, Hit]
    assert all(time_to_live(redis_server, key) > 0 for key in ("claimed", "stored", "foreign"))


@pytest.mark.parametrize("denied", ["set", "getrange", "pttl", "del", "evalsha", "eval"])
def test_a_user_without_a_command_is_told_so_and_parks_nothing(redis_server: Any, denied: str) -> None:
    """An ACL that lacks a command: every text is answered, the cause is named, no key is left without an end."""
    with Redis.from_url(redis_server.url) as redis:
        redis.script_flush()
        redis.execute_command("ACL", "SETUSER", "worker", "on", ">pw", "~{earlybird}:*", "+@all", f"-{denied}")
    plant(redis_server, "old", entry("old", label=0))
    plant(redis_server, "held", b"? somebody")
    ours = cache(redis_server, url=redis_server.url + "?username=worker&password=pw")
    with capture_logs() as lines:
        for offset in range(4):
            answers = ours.claim([claim("old", offset), claim(f"new{offset}"), claim("held", offset)])
            assert answers[1] == ACQUIRED
            ours.store({"old": first(), f"new{offset}": first()}, {f"new{offset}": 1, "held": 0})
    hints = {line["hint"] for line in lines if line["event"] in ("cache.refused", "cache.lost")}
    assert all("ACL" in hint for hint in hints)
    assert hints, lines
    with Redis.from_url(redis_server.url) as redis:
        endless = [key for key in redis.keys("*") if redis.pttl(key) < 0]
    assert set(endless) <= {(PREFIX + key).encode() for key in ("old", "held")}, "those that we planted"


def test_a_replica_is_called_a_replica(redis_server: Any) -> None:
    """It answers what it has, takes no writes, and the line says where to point the URL."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {})
    with Redis.from_url(redis_server.url) as redis:
        redis.replicaof("127.0.0.1", "1")
    with capture_logs() as lines:
        assert isinstance(ours.claim([claim(offset=1)])[0], Hit)
        ours.store({"new": first()}, {})
    (line,) = lines
    assert (line["event"], ours.failures) == ("cache.refused", 0)
    assert "READONLY" in line["reason"] and "primary" in line["hint"]
    assert not ours.writable and ours.available


def test_a_wrong_password_is_called_one(redis_server: Any) -> None:
    """Not a server that is away."""
    ours = cache(redis_server, url=redis_server.url + "?username=nobody&password=no")
    with capture_logs() as lines:
        for _ in range(3):
            ours.claim([claim()])
    assert [line["event"] for line in lines] == ["cache.lost"]
    assert "password" in lines[0]["hint"]


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (BaseParser.parse_error("LOADING Redis is loading the dataset in memory"), "loading"),
        (BaseParser.parse_error("MOVED 1234 10.0.0.7:6379"), "node of a Redis Cluster"),
        (BaseParser.parse_error("CLUSTERDOWN Hash slot not served"), "Cluster"),
        (BaseParser.parse_error("MASTERDOWN Link with MASTER is down"), "primary"),
        (BaseParser.parse_error("MISCONF Redis is configured to save RDB snapshots"), "cannot save"),
        (BaseParser.parse_error("NOAUTH Authentication required."), "password"),
        ("NOREPLICAS Not enough good replicas to write.", "min-replicas-to-write"),
        ("something new", "every text is computed"),
    ],
)
def test_each_error_has_its_hint(said: Any, hint: str) -> None:
    """As the client makes them of a server's words."""
    assert hint in explained(said)[1]


@pytest.mark.faults
def test_a_dead_server_is_left_alone_until_a_probe_finds_it_back(redis_server: Any) -> None:
    """Three failures open the breaker; then one call a second is tried, however many are asked for."""
    seconds = Seconds()
    ours = cache(redis_server, seconds)
    assert ours.claim([claim()]) == [ACQUIRED]
    redis_server.kill()
    for _ in range(100):
        assert ours.claim([claim("a"), claim("b")]) == [ACQUIRED, ACQUIRED]
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
            assert ours.claim([claim("a"), claim("b")]) == [ACQUIRED, ACQUIRED]
        assert ours.calls == ours.failures == 3
    finally:
        redis_server.resume()
    patient = cache(redis_server)
    patient.store({"z": first(offset=4)}, {})
    assert [type(answer) for answer in patient.claim([claim("z", offset=5), claim("new")])] == [Hit, type(ACQUIRED)]


@pytest.mark.faults
def test_a_full_server_still_answers_what_it_has(redis_server: Any) -> None:
    """When no memory is left, hits go on, claims are mine, results are dropped and counted, and it is said once."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {})
    redis = Redis.from_url(redis_server.url)
    redis.config_set("maxmemory-policy", "noeviction")
    redis.config_set("maxmemory", "1")
    redis.close()
    with capture_logs() as lines:
        assert [type(answer) for answer in ours.claim([claim(offset=1), claim("new")])] == [Hit, type(ACQUIRED)]
    (line,) = lines
    assert line["event"] == "cache.refused" and "OOM" in line["reason"] and "memory" in line["hint"]
    with capture_logs() as lines:
        ours.store({"new": first()}, {})
        ours.store({"newer": first()}, {})
    assert (ours.refused, ours.failures, ours.writable) == (4, 0, False)
    assert lines == [], "it was said with the first refusal"


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
        RedisCache("localhost", ttl_us=1, lease_ms=1, max_layers=LAYERS)


def test_nobody_at_the_address_makes_every_text_mine(tmp_path: Any) -> None:
    """A cache that never was there changes nothing but speed."""
    nobody = RedisCache(f"unix://{tmp_path}/none.sock", ttl_us=1, lease_ms=1, max_layers=LAYERS, monotonic=Seconds())
    assert nobody.claim([claim(), claim("b")]) == [ACQUIRED, ACQUIRED]
    nobody.store({"k": first()}, {})
    nobody.close()


def test_repeats_are_counted_with_the_result(redis_server: Any) -> None:
    """Items that followed a leader in flight count for the next claim, whether the leader was computed or answered."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {"k": 2, "unknown": 5})
    ours.store({}, {"k": 3})
    assert hit(ours.claim([claim("k", offset=9)])[0]).count == 6
    assert ours.claim([claim("unknown")]) == [ACQUIRED]


@pytest.mark.parametrize(
    "option",
    [
        "socket_timeout=10", "socket_connect_timeout=10", "retry_on_timeout=true", "retry_on_error=x", "timeout=5",
        "health_check_interval=1", "max_connections=1", "protocol=3", "decode_responses=true", "socket_read_size=1",
        "legacy_responses=false", "Socket_Timeout=10", "socket%5Ftimeout=10", "host=elsewhere", "unheard_of=1",
    ],
)  # fmt: skip
def test_options_of_a_url_that_could_break_a_budget_are_refused(option: str) -> None:
    """At start, with their names and what may be there."""
    with pytest.raises(SettingsError, match=r"options that cannot be passed through: \w+.*allowed: db, username"):
        RedisCache(f"redis://cache/0?{option}", ttl_us=1, lease_ms=1, max_layers=LAYERS)


def test_options_that_say_who_and_how_are_the_users(redis_server: Any) -> None:
    """A database, a name, TLS."""
    ours = cache(redis_server, url=redis_server.url + "?db=3&client_name=me")
    assert ours.claim([claim()]) == [ACQUIRED]
    with Redis.from_url(redis_server.url, db=3) as redis:
        assert redis.keys() == [(PREFIX + "k").encode()]
    RedisCache("rediss://cache?ssl_cert_reqs=none&socket_keepalive=true", ttl_us=1, lease_ms=1, max_layers=LAYERS)
    with pytest.raises(SettingsError, match="it is the database"):
        RedisCache("redis://cache/O", ttl_us=1, lease_ms=1, max_layers=LAYERS)


def test_a_resolver_that_hangs_holds_no_text_up(
    monkeypatch: pytest.MonkeyPatch, until: Callable[[Callable[[], bool]], None]
) -> None:
    """It has no time-out of its own: it goes on by itself, one at a time, and its answer is welcome when it comes."""
    goes_on, asked = threading.Event(), []

    def hang(*_: object, **__: object) -> Any:
        asked.append(threading.current_thread())
        goes_on.wait()
        raise OSError("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    seconds = Seconds()
    ours = RedisCache("redis://cache", ttl_us=1, lease_ms=1, max_layers=LAYERS, budget_ms=1, monotonic=seconds)
    try:
        for _ in range(10):
            seconds.now += 1
            assert ours.claim([claim()]) == [ACQUIRED]
        until(lambda: bool(asked))
        assert (ours.failures, len(asked)) == (10, 1)
    finally:
        goes_on.set()
    asked[0].join()
    for _ in range(2):  # the first is told that it failed, the next begins anew
        seconds.now += 1
        ours.claim([claim()])
    until(lambda: len(asked) == 2)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n", b":1\r\n", b"*0\r\n", b"$-1\r\n", b"+OK\r\n", b"*1\r\n" * 50 + b":1\r\n",
        b"*3\r\n:0\r\n$0\r\n\r\n*0\r\n", b"*3\r\n:0\r\n$0\r\n\r\n*1\r\n*0\r\n", b"*3\r\n$1\r\nx\r\n:0\r\n*1\r\n:0\r\n",
        b"-WHO are you\r\n", b"-\xff\r\n", b"$99999999999\r\n", b"\x00" * 100, b"",
    ],
    ids=lambda _: "",
)  # fmt: skip
def test_whatever_listens_there_every_text_has_its_answer(said: bytes) -> None:
    """A URL that names another service, or one that is no Redis of ours."""

    class Other(BaseRequestHandler):
        def handle(self) -> None:
            while self.request.recv(65_536) and said:
                self.request.sendall(said)

    with ThreadingTCPServer(("127.0.0.1", 0), Other) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ours = cache(None, url=f"redis://127.0.0.1:{server.server_address[1]}", budget_ms=50)
        for _ in range(4):
            assert ours.claim([claim()]) == [ACQUIRED]
            ours.store({"k": first()}, {})
        assert ours.failures >= 3 and ours.hits == 0
        ours.close()
        server.shutdown()


@pytest.mark.parametrize("host", ["x" * 70, "a..b", "caf\u00e9" * 20])
def test_a_host_that_no_name_can_be_is_a_server_that_is_away(host: str) -> None:
    """It ends no worker."""
    ours = cache(None, url=f"redis://{host}")
    assert ours.claim([claim()]) == [ACQUIRED]
    assert ours.failures == 1


def test_a_connection_that_the_server_closed_while_idle_is_made_anew(redis_server: Any) -> None:
    """A server with a time-out for idle clients is no failure."""
    ours = cache(redis_server)
    ours.store({"k": first()}, {})
    with Redis.from_url(redis_server.url) as redis:
        for client in redis.client_list(_type="normal"):
            if client["id"] != str(redis.client_id()):
                redis.client_kill_filter(_id=client["id"])
    assert isinstance(ours.claim([claim(offset=1)])[0], Hit)
    assert ours.failures == 0


@pytest.mark.parametrize("denied", ["", "pttl"])
def test_no_text_waits_longer_than_a_lease_whatever_redis_says(
    redis_server: Any,
    denied: str,
    worlds: Callable[..., Any],
    make_news: Callable[..., Any],
    make_record: Callable[..., Any],
) -> None:
    """A claim that lasts for ever, and a user who may not ask how long: the text is computed, kept, and later ones are
    answered with it."""
    with Redis.from_url(redis_server.url) as redis:
        redis.execute_command(
            "ACL", "SETUSER", "worker", "on", ">pw", "~*", "+@all", *([f"-{denied}"] if denied else [])
        )
    ours = cache(redis_server, url=redis_server.url + "?username=worker&password=pw", ttl_us=24 * HOUR_US)
    held = worlds(cache=Stubborn(redis_server, ours), longest_wait_s=0.0)
    held.source.append([make_record(0, make_news("n0", "Norvex lifts full-year outlook"))])
    held.turn()
    assert held.pipeline.in_flight == 1
    while not held.model.requests:
        held.turn()
    held.finish()
    assert [signal.novelty.cache_hit for signal in held.signals] == [False]
    held.source.append([make_record(1, make_news("n1", "Norvex lifts full-year outlook"))])
    held.finish()
    assert [signal.novelty.dup_of for signal in held.signals] == [None, "wire:n0"]


class Stubborn:
    """A cache into which somebody writes a claim without an end before each question."""

    def __init__(self, server: Any, cache: RedisCache) -> None:
        self._server, self._cache = server, cache
        self._stored = False

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        """As DuplicateCache.claim."""
        if not self._stored:
            for one in claims:
                plant(self._server, one.key, b"? somebody", px=50_000)
        return self._cache.claim(claims)

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
        """As DuplicateCache.store."""
        self._stored = True
        self._cache.store(firsts, repeats)

    def close(self) -> None:
        """As DuplicateCache.close."""
        self._cache.close()


STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1, 3, 2**31, 2**63, 10**40, 0.0, -0.0, 0.5, 1.5, -1e308, "", "x", "\x00", "\ud800", "a" * 5_000,
    [], [[]], {}, {"a": 1}, [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], ["news.raw", 1, 2, 3], 1_700_000_000_000_000, "window",
    "deadline",
)  # fmt: skip


def test_a_mutated_entry_is_a_miss_or_a_signal() -> None:
    """Signed by somebody who knows how: nothing but ValueError comes out of it, or what a signal may say."""
    rng, entries, hits = random.Random(20), EntryCodec(None, LAYERS), 0
    for _ in range(4_000):
        content = json.loads(write_first(first()))
        for field in rng.sample(sorted(content), rng.randint(1, 2)):
            inside = content[field]
            if isinstance(inside, list) and rng.random() < 0.5:
                inside[rng.randrange(len(inside))] = rng.choice(STRANGE)
            else:
                content[field] = rng.choice(STRANGE)
        position, seen = content["position"], content["seen_us"]
        place = "/".join(map(str, position)) if isinstance(position, list) else str(position)
        raw = bytearray(json.dumps(content).encode())
        if rng.random() < 0.2:
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        header = f"{seen} {place}".encode(errors="replace")
        try:
            found, count = entries.read("k", signed("k", bytes(raw), header=header))
        except ValueError:
            continue
        hits += 1
        verdict = found.verdict
        Exit(layer=verdict.exit_layer, max_layers=LAYERS, reason=verdict.exit_reason, puzzlement=verdict.puzzlement)
        Probabilities(**dict(zip(("negative", "neutral", "positive"), verdict.probs, strict=True)))
        Novelty(cache_hit=True, dup_of=found.item_key, dup_count=count, first_seen_us=found.seen_us)
        assert verdict.probs[verdict.label] == max(verdict.probs) >= 1 / 3 - 1e-5
        assert found.item_key.isprintable() and found.item_key.encode()
    assert 0 < hits < 4_000


def test_an_entry_of_an_invented_length_is_not_read(redis_server: Any) -> None:
    """The server hands out a bounded part, however much is there."""
    ours = cache(redis_server)
    content = json.loads(write_first(first())) | {"unknown": "x" * 20_000_000}
    plant(redis_server, "k", signed("k", json.dumps(content).encode()))
    with Redis.from_url(redis_server.url) as redis:
        before = redis.info("stats")["total_net_output_bytes"]
        assert ours.claim([claim(offset=1)]) == [ACQUIRED]
        assert redis.info("stats")["total_net_output_bytes"] - before < 100_000
    assert ours.bad == 1
