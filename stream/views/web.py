"""HTTP of the views: JSON about symbols, health, metrics and one page."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from importlib import resources
from typing import Any

import structlog
from aiohttp import ClientError, ClientSession, ClientTimeout, web
from yarl import URL

from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.ports import Clock
from earlybird.stream.timeline.instants import instant_us
from earlybird.stream.views.answers import item_of, overview, sentiment, window_of
from earlybird.stream.views.state import State
from earlybird.stream.views.windows import KEPT_US, SPANS_US

log = structlog.get_logger(__name__)

LOCAL = "X-Earlybird-Local"
"""Header of a worker's question to another one: answer from your own partitions, ask nobody."""

_ASK_S = 2.0
_MOST_ITEMS = 1_000

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """A question that gets an error: status, sentence, and further fields of the answer."""

    def __init__(self, status: int, why: str, **more: Any) -> None:
        super().__init__(why)
        self.status, self.more = status, more


class Web:
    """Routes over one worker's state.

    Questions about other partitions go to their owners. Event loop only.
    """

    def __init__(self, state: State, partition_of: Callable[[bytes, int], int], clock: Clock) -> None:
        self._state, self._partition_of, self._clock = state, partition_of, clock
        self._session: ClientSession | None = None
        self._page = resources.files("earlybird.stream.views").joinpath("page.html").read_bytes()

    def application(self) -> web.Application:
        """Return the application to serve."""
        app = web.Application(middlewares=[_errors])
        app.add_routes(
            [
                web.get("/", self.page),
                web.get("/symbols", self.symbols),
                web.get("/symbols/{symbol}", self.symbol),
                web.get("/symbols/{symbol}/items", self.items),
                web.get("/healthz", self.healthz),
                web.get("/readyz", self.readyz),
                web.get("/metrics", self.metrics),
            ]
        )
        app.cleanup_ctx.append(self._client)
        return app

    async def _client(self, _: web.Application) -> Any:
        async with ClientSession(timeout=ClientTimeout(total=_ASK_S)) as session:
            self._session = session
            yield

    async def page(self, _: web.Request) -> web.Response:
        """The board for people."""
        return web.Response(body=self._page, content_type="text/html", charset="utf-8")

    async def symbols(self, request: web.Request) -> web.Response:
        """All symbols with news in a window, from all workers."""
        window, as_of_us = _window(request, "15m"), self._as_of(request)
        shards = self._state.shards()
        rows = [row for shard in shards.values() for row in overview(shard, window, as_of_us)]
        answered = set(shards)
        if LOCAL not in request.headers:
            others = {url for url in self._state.owners().values() if url != self._state.url}
            query = {"window": window, "as_of": f"{as_of_us}us"}
            for told in await asyncio.gather(*(self._ask(url, "/symbols", query) for url in sorted(others))):
                fresh = [] if told is None else [part for part in told["partitions"] if part not in answered]
                rows += [] if told is None else [row for row in told["symbols"] if self._place(row["symbol"]) in fresh]
                answered.update(fresh)
        missing = sorted(set(range(self._state.partitions)) - answered)
        body = {"as_of_us": as_of_us, "window": window, "partitions": sorted(answered)}
        return _json(body | {"missing": missing, "symbols": sorted(rows, key=lambda row: str(row["symbol"]))})

    async def symbol(self, request: web.Request) -> web.StreamResponse:
        """All windows of a symbol, or the one asked for."""

        def told(symbol: str, partition: int) -> dict[str, Any]:
            shard, as_of_us = self._state.shards()[partition], self._as_of(request)
            if "window" in request.query:
                window = window_of(shard, symbol, _window(request, "15m"), as_of_us)
                body = {"symbol": symbol, "as_of_us": as_of_us, **window.model_dump(mode="json")}
            else:
                body = sentiment(shard, symbol, as_of_us, self._state.half_life_us).model_dump(mode="json")
            return body

        return await self._by_owner(request, told)

    async def items(self, request: web.Request) -> web.StreamResponse:
        """The items of a symbol's window, the latest first."""

        def told(symbol: str, partition: int) -> dict[str, Any]:
            shard, as_of_us = self._state.shards()[partition], self._as_of(request)
            window, limit = _window(request, "1d"), _limit(request)
            counted = shard.counted(symbol, SPANS_US[window], as_of_us)[::-1]
            items = [item_of(one).model_dump(mode="json") for one in counted[:limit]]
            return {"symbol": symbol, "as_of_us": as_of_us, "window": window, "n": len(counted), "items": items}

        return await self._by_owner(request, told)

    async def healthz(self, _: web.Request) -> web.Response:
        """200 while the event loop runs: restarting this process repairs no broker."""
        return _json({"healthy": True})

    async def readyz(self, _: web.Request) -> web.Response:
        """200 while this worker is a member with its rows restored."""
        waiting = self._state.waiting
        return _json({"ready": not waiting, "waiting": waiting}, 503 if waiting else 200)

    async def metrics(self, _: web.Request) -> web.Response:
        """Counters and gauges in Prometheus' text format."""
        return web.Response(text=exposition(self._state), content_type="text/plain", charset="utf-8")

    async def _by_owner(self, request: web.Request, told: Callable[[str, int], dict[str, Any]]) -> web.StreamResponse:
        symbol = _symbol(request)
        partition = self._place(symbol)
        if partition in self._state.shards():
            about = {"partition": partition, "behind": self._state.behind(partition), "worker": self._state.url}
            return _json(told(symbol, partition) | about)
        _window(request, "15m"), self._as_of(request), _limit(request)  # what is wrong with a question is said here
        owner = self._state.owners().get(partition)
        if LOCAL in request.headers or owner is None or owner == self._state.url:
            raise Refused(503, "the symbol's partition is moving; ask again", partition=partition)
        answer = await self._ask(owner, request.rel_url.raw_path, dict(request.query))
        if answer is None:
            raise Refused(503, "the worker that owns the symbol's partition does not answer", partition=partition)
        return _json(answer)

    async def _ask(self, url: str, path: str, query: Mapping[str, str]) -> dict[str, Any] | None:
        assert self._session is not None, "asked before the application started. This is a bug."
        try:
            async with self._session.get(
                URL(f"{url}{path}", encoded=True), params=query, headers={LOCAL: "1"}
            ) as response:
                if response.status != 200:
                    return None
                answer: dict[str, Any] = await response.json()
                return answer
        except (ClientError, TimeoutError, ValueError) as error:
            log.debug("views.unanswered", url=url, why=f"{type(error).__name__}: {error}")
            return None

    def _place(self, symbol: str) -> int:
        return self._partition_of(symbol.encode(), self._state.partitions)

    def _as_of(self, request: web.Request) -> int:
        now_us = self._clock.now_us()
        if "as_of" not in request.query:
            return now_us
        given = request.query["as_of"]
        try:
            as_of_us = int(given[:-2]) if given.endswith("us") else instant_us(given, now_us, "as_of")
        except ValueError as error:
            raise Refused(400, f"as_of: {error}") from None
        if not now_us - (KEPT_US - max(SPANS_US.values())) <= as_of_us <= now_us:
            raise Refused(400, "as_of: an instant of the last 24 hours expected: older items are forgotten")
        return as_of_us


def exposition(state: State) -> str:
    """Return the metrics of a worker."""
    counts = asdict(state.counters)
    lines = [
        f"# TYPE earlybird_views_{name}_total counter\nearlybird_views_{name}_total {counts[name]}" for name in counts
    ]
    shards = state.shards()
    behind = [count for number in shards if (count := state.behind(number)) is not None]
    gauges = {
        "ready": int(not state.waiting),
        "partitions": len(shards),
        "symbols": sum(len(shard.symbols()) for shard in shards.values()),
        "rows": state.rows,
        "behind": sum(behind),
    }
    lines += [f"# TYPE earlybird_views_{name} gauge\nearlybird_views_{name} {value}" for name, value in gauges.items()]
    return "\n".join(lines) + "\n"


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refused as error:
        headers = {"Retry-After": "1"} if error.status == 503 else {}
        return _json({"error": str(error), **error.more}, error.status, headers)


def _json(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    kept = {"Cache-Control": "no-store", **(headers or {})}
    return web.Response(text=json.dumps(body) + "\n", status=status, content_type="application/json", headers=kept)


def _symbol(request: web.Request) -> str:
    try:
        return canonical_symbol(request.match_info["symbol"])
    except ValueError as error:
        raise Refused(400, f"symbol: {error}") from None


def _window(request: web.Request, default: str) -> str:
    window = request.query.get("window", default)
    if window not in SPANS_US:
        raise Refused(400, f"window: one of {', '.join(SPANS_US)} expected, was {window[:20]!r}")
    return window


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", "50")
    if not given.isdecimal() or not 0 < int(given[:9]) <= _MOST_ITEMS:
        raise Refused(400, f"limit: 1 to {_MOST_ITEMS} expected, was {given[:20]!r}")
    return int(given)
