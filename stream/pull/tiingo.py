"""Tiingo's news, polled: it has a REST endpoint and no stream.

A page is asked for by the time at which Tiingo found the articles; further pages follow until one holds an article that
is known. The vendor's SDK gives decoded answers.
"""

import json
from collections.abc import Iterator, Sequence

import structlog

from earlybird.stream.pull.polling import Poll, until
from earlybird.stream.pull.source import Disconnected, Frame, Origin
from earlybird.stream.pull.web import Http, host, now_us

log = structlog.get_logger(__name__)

URL = "https://api.tiingo.com/tiingo/news"

_SECRET = "pull.tiingo_token"
_PAGE = 100
_MOST_PAGES = 10


class Tiingo:
    """Articles about some symbols, or all."""

    name = "tiingo"
    answering = True

    def __init__(
        self, token: str, symbols: Sequence[str], user_agent: str, interval_s: float, url: str = URL, page: int = _PAGE
    ) -> None:
        self._url, self._page, self.address = url, page, host(url)
        self._query = {"sortBy": "crawlDate", "limit": page} | ({"tickers": ",".join(symbols)} if symbols else {})
        self._http = Http({"Authorization": f"Token {token}", "User-Agent": user_agent})
        self._poll, self._known = Poll(interval_s), frozenset[object]()

    def frames(self, since_us: int | None) -> Iterator[Frame | None]:  # noqa: ARG002  it has what it has
        """Yield the pages that hold something new, the oldest first. Raises Disconnected when one fails."""
        while True:
            yield from until(self._poll.due_s)
            try:
                pages = self._pages()
            except Disconnected as error:
                raise Disconnected(str(error), self._poll.missed(error.retry_after_s)) from None
            origin: Origin = "backlog" if not self._known else "gap" if self._poll.failed else "live"
            self._poll.done()
            self._known = frozenset(_ids(pages[0])) or self._known
            for content in reversed(pages):
                yield Frame(content, now_us(), origin)
            yield None

    def _pages(self) -> list[bytes]:
        pages: list[bytes] = []
        while True:
            pages.append(self._http.document(self._url, {**self._query, "offset": len(pages) * self._page}, _SECRET))
            ids = _ids(pages[-1])
            if not self._known or not ids or self._known & set(ids):
                return pages
            if len(pages) == _MOST_PAGES:
                hint = f"more than {_MOST_PAGES * self._page:,} articles came between two polls"
                log.warning("pull.gap_open", source=self.name, address=self.address, hint=hint)
                return pages


def _ids(content: bytes) -> list[object]:
    try:
        articles = json.loads(content)
    except ValueError:
        return []  # the parser names it
    if not isinstance(articles, list):
        return []
    return [each["id"] for each in articles if isinstance(each, dict) and isinstance(each.get("id"), int | str)]
