"""Finnhub's news: its stream, and after a gap its REST endpoint per company.

The vendor's SDK has no stream, and gives decoded answers of the rest.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import structlog

from earlybird.stream.errors import PullError
from earlybird.stream.pull.source import Disconnected, Frame
from earlybird.stream.pull.web import Http, host, messages, now_us, websocket

log = structlog.get_logger(__name__)

STREAM_URL = "wss://ws.finnhub.io"
HISTORY_URL = "https://finnhub.io/api/v1/company-news"

_SECRET = "pull.finnhub_token"


class Finnhub:
    """News of some symbols; the vendor has no subscription to all."""

    name = "finnhub"
    answering = True

    def __init__(
        self, token: str, symbols: Sequence[str], user_agent: str,
        url: str = STREAM_URL, history_url: str = HISTORY_URL,
    ) -> None:  # fmt: skip
        self._url, self._symbols, self._agent = f"{url}?{urlencode({'token': token})}", list(symbols), user_agent
        self._history_url, self.address = history_url, host(url)
        self._http = Http({"X-Finnhub-Token": token, "User-Agent": user_agent})

    def frames(self, since_us: int | None) -> Iterator[Frame | None]:
        """Subscribe, read what was missed, and yield what comes."""
        with websocket(self._url, self._agent, _SECRET) as socket:
            for symbol in self._symbols:
                socket.send(json.dumps({"type": "subscribe-news", "symbol": symbol}))
            if since_us is not None:
                yield from self._history(since_us)
            yield None
            for content in messages(socket):
                if content is not None and b'"error"' in content and (why := _error(content)) is not None:
                    raise Disconnected(f"{self.address}: {why}")
                yield None if content is None else Frame(content, now_us())

    def _history(self, since_us: int) -> Iterator[Frame]:
        """Yield the articles since an instant: the endpoint knows whole days only."""
        since = datetime.fromtimestamp(since_us / 1e6, UTC)
        days = {"from": since.date().isoformat(), "to": (datetime.now(UTC) + timedelta(days=1)).date().isoformat()}
        for symbol in self._symbols:
            try:
                content = self._http.document(self._history_url, {"symbol": symbol, **days}, _SECRET)
            except (Disconnected, PullError) as error:  # a refusal, too: the stream itself was not refused
                log.warning(
                    "pull.gap_open", source=self.name, address=self.address, since=since.isoformat(), why=str(error),
                    symbol=symbol,
                )  # fmt: skip
                continue
            yield Frame(_since(content, since_us // 1_000_000), now_us(), "gap")


def _since(content: bytes, second: int) -> bytes:
    """Return a page without the articles before a second, the oldest first."""
    try:
        articles = json.loads(content)
    except ValueError:
        return content  # the parser names it
    if not isinstance(articles, list):
        return content
    times = [(article.get("datetime"), article) for article in articles if isinstance(article, dict)]
    late = [pair for pair in times if not isinstance(pair[0], int) or pair[0] >= second]
    late.sort(key=lambda pair: pair[0] if isinstance(pair[0], int) else 0)
    return json.dumps([article for _, article in late]).encode()


def _error(content: bytes) -> str | None:
    """Return what an error message says, None for any other message."""
    try:
        message = json.loads(content)
    except ValueError:
        return None
    is_error = isinstance(message, dict) and message.get("type") == "error"
    return str(message.get("msg"))[:200] if is_error else None
