"""Duplicate cache on Redis: one script call per batch, with time budget and breaker.

Each text has one string: `COUNT ENTRY` once it is answered (claims so far, and the first result, see
stream.adapters.cache_codec), or `? TOKEN` while a worker computes it. Every write is a single SET with its time to
live, so nothing stays behind without one. All keys carry the hash tag {earlybird}: a script may use many keys only
where they share a slot. On a Redis Cluster the cache therefore lives on one node; point the URL at it.

Every client that can write to this Redis can write verdicts, unless entries are signed with a secret.
"""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import structlog
from redis import RedisError

from earlybird.stream.adapters.breaker import Breaker
from earlybird.stream.adapters.cache_codec import LARGEST_ENTRY, EntryCodec, position_text
from earlybird.stream.adapters.rate_limit import RateLimit
from earlybird.stream.adapters.redis_link import Link, Script, explained
from earlybird.stream.ports import ACQUIRED, HELD_ELSEWHERE, Claim, ClaimResult, First, Hit

log = structlog.get_logger(__name__)

PREFIX = "{earlybird}:2:"  # 2 is the version of the layout
FAILURES = 3  # calls in a row before Redis is left alone
PROBE_S = 1.0

# A refused command is counted instead of raised: a server that is full, a replica or limited by an ACL still has hits.
# Values are read up to a limit, since others may have stored anything.
PREAMBLE = """
local refused, cause = 0, ''
local function ask(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.find(answer.err, 'WRONGTYPE') then return 'WRONGTYPE' end
  refused, cause = refused + 1, answer.err
end
local function read(key, limit)
  return ask('GETRANGE', key, 0, limit) or ''
end
"""

# KEYS: texts. ARGV: token, lease in ms, ttl in ms, ttl in us, largest entry, then per text its recorded instant and its
# raw position. Answers: 0 claimed by us, 1 by another worker, 2 by us in place of an invalid entry, else the entry.
CLAIM = Script(
    PREAMBLE
    + """
local answers = {}
local token, lease, ttl, limit = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[5])
for i, key in ipairs(KEYS) do
  local at, position = tonumber(ARGV[2 * i + 4]), ARGV[2 * i + 5]
  local value = read(key, limit)
  local n, seen, first = string.match(value, '^(%d+) (%d+) (%S+) ')
  local claimed = string.sub(value, 1, 2) == '? '
  answers[i] = 0
  if n and #value <= limit and math.abs(at - tonumber(seen)) <= tonumber(ARGV[4]) then
    if first ~= position then ask('SET', key, string.format('%.0f', n + 1) .. string.sub(value, #n + 1), 'PX', ttl) end
    answers[i] = value
  elseif claimed and value ~= '? ' .. token then
    local left = ask('PTTL', key) or 0
    if left >= 0 and left <= tonumber(lease) then answers[i] = 1 end
  elseif value ~= '' and not claimed and not (n and #value <= limit) then
    answers[i] = 2
  end
  if answers[i] == 0 or answers[i] == 2 then ask('SET', key, '? ' .. token, 'PX', lease) end
end
return {refused, cause, answers}
"""
)

# KEYS: texts. ARGV: token, ttl in ms, largest entry, then per text its entry ('' for none: only count) and the number
# of items that repeated it. The first result stays: a second computation has the same result, but is not the first.
# Our claim on a text that is only counted is released.
STORE = Script(
    PREAMBLE
    + """
local token, ttl, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
for i, key in ipairs(KEYS) do
  local entry, repeats = ARGV[2 * i + 2], ARGV[2 * i + 3]
  local value = read(key, limit)
  local n = #value <= limit and string.match(value, '^(%d+) %d+ %S+ ')
  if n then
    if repeats ~= '0' then
      ask('SET', key, string.format('%.0f', n + repeats) .. string.sub(value, #n + 1), 'PX', ttl)
    end
  elseif entry ~= '' then
    ask('SET', key, string.format('%.0f', 1 + repeats) .. ' ' .. entry, 'PX', ttl)
  elseif value == '? ' .. token then
    ask('DEL', key)
  end
end
return {refused, cause, {}}
"""
)

# KEYS: texts with invalid entries. ARGV: token, lease in ms. Claims them for us.
REPLACE = Script(
    PREAMBLE
    + """
for _, key in ipairs(KEYS) do ask('SET', key, '? ' .. ARGV[1], 'PX', ARGV[2]) end
return {refused, cause, {}}
"""
)

_Answered = tuple[int, bytes, list[int | bytes]]
"""Number of refused commands, reason of the last refusal, and a value per text (CLAIM only)."""


class RedisCache:
    """A DuplicateCache on Redis or Valkey.

    Not thread-safe: consumer thread only, except `available`, `writable` and `figures`. Counters: `calls` tried,
    `failures` among them, `skipped` while the breaker was open; `hits`, `misses`, `pending` texts; `bad` entries
    discarded; commands inside a script that the server `refused`.
    """

    def __init__(
        self,
        url: str,
        *,
        ttl_us: int,
        lease_ms: int,
        max_layers: int,
        rungs: int = 0,
        budget_ms: int = 20,
        secret: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Check the URL without connecting; raises SettingsError for a bad URL or option.

        `ttl_us`: how far apart two recorded instants may be for the texts to count as duplicates. `lease_ms`: how
        long a claimed text is left to the worker that claimed it. `max_layers`: of the model, no exit is deeper.
        `rungs`: of its policy, if that follows the load. `budget_ms`: the longest wait per call. `secret`: signs
        entries, see stream.adapters.cache_codec.
        """
        self.calls = self.failures = self.skipped = self.hits = self.misses = self.pending = self.bad = self.refused = 0
        self.writable = True
        self._ttl_us, self._lease_ms, self._token = ttl_us, lease_ms, uuid.uuid4().hex
        # Redis only cleans up by this; duplicates are decided on recorded instants. At least a lease, so that a tiny
        # ttl stays valid.
        self._ttl_ms = max(ttl_us // 1000, lease_ms)
        self._entries = EntryCodec(secret, max_layers, rungs)
        self._link = Link(url, budget_ms)
        self._breaker = Breaker(FAILURES, PROBE_S, monotonic)
        self._limit = RateLimit(monotonic)

    @property
    def available(self) -> bool:
        """True while Redis is asked; while False, /readyz calls the stage degraded."""
        return not self._breaker.open

    @property
    def figures(self) -> dict[str, int]:
        """Values for the metrics, see stream.observability.figures."""
        names = ("failures", "skipped", "hits", "misses", "pending", "bad", "refused")
        states = {"up": int(self.available), "writable": int(self.writable), "answered": self.calls - self.failures}
        return states | {name: getattr(self, name) for name in names}

    def claim(self, claims: Sequence[Claim]) -> list[ClaimResult]:
        if not claims:
            return []
        arguments: list[str | int] = [self._token, self._lease_ms, self._ttl_ms, self._ttl_us, LARGEST_ENTRY]
        for claim in claims:
            arguments += [claim.at_us, position_text(claim.position)]
        keys = [PREFIX + claim.key for claim in claims]
        values = self._run_script(CLAIM, keys, arguments)
        if values is None:
            return [ACQUIRED] * len(claims)
        answers = [self._read(claim.key, value) for claim, value in zip(claims, values, strict=True)]
        unreadable = [key for key, answer in zip(keys, answers, strict=True) if answer is None]
        if unreadable:
            self._run_script(REPLACE, unreadable, [self._token, self._lease_ms])
        return [answer or ACQUIRED for answer in answers]

    def store(self, firsts: Mapping[str, First], repeats: Mapping[str, int]) -> None:
        keys = [*firsts, *(repeats.keys() - firsts.keys())]
        if not keys:
            return
        arguments: list[str | int | bytes] = [self._token, self._ttl_ms, LARGEST_ENTRY]
        for key in keys:
            arguments += [self._written(key, firsts.get(key)), repeats.get(key, 0)]
        self._run_script(STORE, [PREFIX + key for key in keys], arguments)

    def close(self) -> None:
        self._link.close()

    def _run_script(
        self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]
    ) -> list[int | bytes] | None:
        """Run a script and return its value per text; None when the call failed."""
        texts = len(keys) if script is CLAIM else 0
        answered = self._guarded(lambda: _checked(self._link.script(script, keys, arguments), texts))
        if answered is None:
            return None
        refused, cause, values = answered
        self._count_refused(refused, cause)
        return values

    def _written(self, key: str, first: First | None) -> bytes:
        """Return the entry to store, empty for a result that could not be read again."""
        try:
            return b"" if first is None else self._entries.write(key, first)
        except ValueError:
            return b""

    def _read(self, key: str, value: int | bytes) -> ClaimResult | None:
        """Return the answer for one text; None for an invalid entry that must be replaced."""
        if value == 1:
            self.pending += 1
            return HELD_ELSEWHERE
        if isinstance(value, bytes):
            try:
                first, count = self._entries.read(key, value)
            except ValueError as error:
                self._count_bad(key, str(error))
                return None
            self.hits += 1
            return Hit(first, count)
        if value == 2:
            self._count_bad(key, "neither a claim nor a result")
        else:
            self.misses += 1
        return ACQUIRED

    def _count_bad(self, key: str, reason: str) -> None:
        self.misses += 1
        self.bad += 1
        if self._limit.allows("bad"):
            log.warning("cache.bad_entry", key=key, reason=reason, bad=self.bad, hint="its text is computed")

    def _count_refused(self, refused: int, cause: bytes) -> None:
        self.refused += refused
        self.writable = not refused
        if refused and self._limit.allows("refused"):
            reason, hint = explained(cause.decode(errors="replace"))
            log.warning("cache.refused", refused=self.refused, reason=reason, hint=hint)

    def _guarded(self, call: Callable[[], _Answered]) -> _Answered | None:
        """Return the call's answer; None when it failed or the breaker was open."""
        if not self._breaker.allows():
            self.skipped += 1
            return None
        self.calls += 1
        try:
            answer = call()
        except (RedisError, OSError) as error:
            self.failures += 1
            if self._breaker.failed():
                reason, hint = explained(error)
                log.warning("cache.lost", reason=reason, hint=hint)
            return None
        if self._breaker.succeeded():
            log.info("cache.back", skipped=self.skipped)
        return answer


def _checked(answer: Any, texts: int) -> _Answered:
    """Validate a script's answer; raises RedisError, since the server need not be Redis."""
    match answer:
        case [int(refused), bytes(cause), list(values)] if len(values) == texts:
            if all(isinstance(value, int | bytes) for value in values):
                return refused, cause, values
    raise RedisError("what answers is no Redis, or has scripts of its own")
