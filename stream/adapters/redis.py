"""The duplicate cache on Redis: one script call a batch, a budget for each, a breaker above.

Stored per text, as a hash: `first` (the result), `seen` (its recorded instant), `at` (the raw position it came from),
`n` (claims so far), or `token` (who is computing it now) until its lease ends. All keys carry the hash tag
{earlybird}: a script may name many keys only where they share a slot. On a Redis Cluster the cache therefore lives on
one node; point the URL at it.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from stream.adapters.breaker import Breaker
from stream.adapters.verdicts import read_first, write_first
from stream.errors import SettingsError
from stream.ports import MINE, PENDING, Answer, Claim, First, Hit, Position

log = structlog.get_logger(__name__)

PREFIX = "{earlybird}:1:"  # 1 is the version of the layout
FAILURES = 3  # calls in a row before Redis is left alone
PROBE_S = 1.0

# KEYS: texts. ARGV: token, lease in ms, ttl in us, then per text its recorded instant and its raw position.
# Every write is a pcall: a full server refuses writes, and its hits are welcome all the same.
CLAIM = """
local answers = {}
for i, key in ipairs(KEYS) do
  local at, position = tonumber(ARGV[2 * i + 2]), ARGV[2 * i + 3]
  local found = redis.pcall('HMGET', key, 'first', 'seen', 'at', 'n', 'token')
  if found.err then redis.pcall('DEL', key); found = {} end
  local seen = tonumber(found[2] or nil)
  if found[1] and seen and math.abs(at - seen) <= tonumber(ARGV[3]) then
    local n = tonumber(found[4] or nil) or 1
    if found[3] ~= position then redis.pcall('HSET', key, 'n', n + 1) end
    answers[i] = {found[1], n}
  elseif not found[1] and found[5] and found[5] ~= ARGV[1] then
    answers[i] = 1
  else
    redis.pcall('DEL', key)
    redis.pcall('HSET', key, 'token', ARGV[1])
    redis.pcall('PEXPIRE', key, ARGV[2])
    answers[i] = 0
  end
end
return answers
"""

# KEYS: texts. ARGV: token, ttl in ms, then per text its result ('' for none: only count), recorded instant, raw
# position and the number of items that repeated it. The first result stays: whoever computes a text a second time says
# the same of it, but is not the first. A claim of ours that is only counted is given up.
STORE = """
local refused = 0
for i, key in ipairs(KEYS) do
  local result, seen, at, repeats = unpack(ARGV, 4 * i - 1, 4 * i + 2)
  local found = redis.pcall('HMGET', key, 'first', 'token')
  if found.err then
    refused = refused + 1
  elseif result == '' or (found[1] and found[2] ~= ARGV[1]) then
    if found[1] and repeats ~= '0' then redis.pcall('HINCRBY', key, 'n', repeats) end
    if not found[1] and found[2] == ARGV[1] then redis.pcall('DEL', key) end
  else
    local wrote = redis.pcall('HSET', key, 'first', result, 'seen', seen, 'at', at, 'n', 1 + repeats)
    if type(wrote) == 'table' and wrote.err then
      refused = refused + 1
    else
      redis.pcall('HDEL', key, 'token')
      redis.pcall('PEXPIRE', key, ARGV[2])
    end
  end
end
return refused
"""


class RedisCache:
    """A DuplicateCache on Redis or Valkey. Not thread-safe: consumer thread only.

    Counters: `calls` tried, `failures` among them, `skipped` while the breaker was open, `corrupt` entries thrown away,
    `unstored` results that a full server refused.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_us: int,
        lease_ms: int,
        budget_ms: int = 20,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`ttl_us`: how far apart two recorded instants may be for the texts to count as duplicates. `lease_ms`: how
        long others leave a claimed text to us. `budget_ms`: the longest a connection or an answer may take.
        Raises SettingsError on a URL that is none, or whose options redis-py cannot take; no server is asked."""
        self.calls = self.failures = self.skipped = self.corrupt = self.unstored = 0
        self._full = False
        self._ttl_us, self._lease_ms = ttl_us, lease_ms
        self._token = uuid.uuid4().hex
        self._breaker = Breaker(FAILURES, PROBE_S, monotonic)
        try:
            self._redis = Redis.from_url(
                url,
                socket_timeout=budget_ms / 1000,
                socket_connect_timeout=budget_ms / 1000,
                retry=Retry(NoBackoff(), 0),  # redis-py's own retries cost seconds a call while the server is away
            )
            pool = self._redis.connection_pool
            pool.connection_class(**pool.connection_kwargs)  # else a misspelt option ends the worker at its first claim
        except (TypeError, ValueError, AttributeError, RedisError) as error:  # AttributeError: text for an object
            raise SettingsError(f"Redis URL: {error}") from None
        self._claim = self._redis.register_script(CLAIM)
        self._store = self._redis.register_script(STORE)

    @property
    def available(self) -> bool:
        """Whether it is asked at all; /readyz calls the stage degraded while it is not."""
        return not self._breaker.open

    def claim(self, claims: Sequence[Claim]) -> list[Answer]:
        """As DuplicateCache.claim."""
        if not claims:
            return []
        arguments: list[str | int] = [self._token, self._lease_ms, self._ttl_us]
        for claim in claims:
            arguments += [claim.at_us, _place(claim.position)]
        keys = [PREFIX + claim.key for claim in claims]
        answers = self._ask(lambda: self._claim(keys=keys, args=arguments))
        if answers is None:
            return [MINE] * len(claims)
        return [self._read(key, answer) for key, answer in zip(keys, answers, strict=True)]

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
        """As DuplicateCache.store."""
        keys = [*firsts, *(repeats.keys() - firsts.keys())]
        if not keys:
            return
        # Redis only cleans up by this; what counts is decided on recorded instants. At least a lease, so that a
        # tiny ttl stays legal.
        arguments: list[str | int | bytes] = [self._token, max(self._ttl_us // 1000, self._lease_ms)]
        for key in keys:
            first = firsts.get(key)
            arguments += ["", 0, ""] if first is None else [write_first(first), first.seen_us, _place(first.position)]
            arguments.append(repeats.get(key, 0))
        refused = self._ask(lambda: self._store(keys=[PREFIX + key for key in keys], args=arguments))
        if refused is None:
            return
        if refused and not self._full:
            log.warning("cache.full", refused=refused, hint="later duplicates are computed; give Redis memory or evict")
        self._full = refused > 0
        self.unstored += refused

    def close(self) -> None:
        """As DuplicateCache.close."""
        self._redis.close()

    def _read(self, key: str, answer: Any) -> Answer:
        if answer == 0:
            return MINE
        if answer == 1:
            return PENDING
        content, count = answer
        try:
            return Hit(read_first(content), count)
        except ValueError as error:
            self.corrupt += 1
            log.warning("cache.corrupt", key=key, reason=str(error), corrupt=self.corrupt)
            self._ask(lambda: self._redis.delete(key))
            return MINE

    def _ask(self, call: Callable[[], Any]) -> Any:
        """The call's answer; None when it failed or was not tried."""
        if not self._breaker.allows():
            self.skipped += 1
            return None
        self.calls += 1
        try:
            answer = call()
        except (RedisError, OSError) as error:
            self.failures += 1
            if self._breaker.failed():
                log.warning("cache.lost", reason=f"{type(error).__name__}: {error}", hint="every text is computed")
            return None
        if self._breaker.succeeded():
            log.info("cache.back", skipped=self.skipped)
        return answer


def _place(position: Position) -> str:
    return f"{position.topic}/{position.partition}/{position.offset}/{position.index}"
