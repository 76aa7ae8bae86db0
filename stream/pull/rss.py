"""RSS and Atom feeds, polled with conditional requests; EDGAR's Atom among them.

Documents go whole to the parser. Feeds of one process share no fault: one that fails is left alone for longer and
longer while the others go on.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog

from earlybird.stream.errors import PullError
from earlybird.stream.pull.polling import Poll, until
from earlybird.stream.pull.source import Disconnected, Frame
from earlybird.stream.pull.web import Http, host, now_us, retry_after_s

log = structlog.get_logger(__name__)

_ACCEPT = "application/atom+xml, application/rss+xml, application/xml;q=0.9, */*;q=0.5"


@dataclass(slots=True)
class _Feed:
    url: str
    poll: Poll
    asks: dict[str, str] = field(default_factory=dict)  # headers of the next conditional request
    read: bool = False  # a document of it was read


class Rss:
    """Documents of some feeds.

    A feed's first document is its backlog; one after a failure is a gap's.
    """

    name = "rss"

    def __init__(self, urls: Sequence[str], user_agent: str, interval_s: float) -> None:
        """Raises PullError for an address that none can be, or needs a user agent.

        EDGAR needs one with an e-mail address: the SEC answers 403 to a request without a contact.
        """
        if wrong := [url for url in urls if not _is_web(url)]:
            shown = wrong[0].partition("?")[0].rpartition("@")[2]  # the rest may hold a token
            raise PullError(f"rss: an address of http or https expected, was {shown!r}")
        self.address = ", ".join(host(url) for url in urls)
        if "@" not in user_agent and any(_is_sec(url) for url in urls):
            raise PullError("pull.user_agent: the SEC asks for a name and an e-mail address, such as 'Acme a@acme.com'")
        self._feeds = [_Feed(url, Poll(interval_s)) for url in urls]
        self._http = Http({"User-Agent": user_agent, "Accept": _ACCEPT}, follow=True)

    @property
    def answering(self) -> bool:
        """Whether at least one of the feeds has been read."""
        return any(feed.read for feed in self._feeds)

    def frames(self, since_us: int | None) -> Iterator[Frame | None]:  # noqa: ARG002  it has what it has
        """Yield each document that is new."""
        while True:
            feed = min(self._feeds, key=lambda each: each.poll.due_s)
            yield from until(feed.poll.due_s)
            frame = self._document(feed)
            if frame is not None:
                yield frame

    def _document(self, feed: _Feed) -> Frame | None:
        try:
            response, content = self._http.get(feed.url, headers=feed.asks)
            if response.status_code not in (200, 304):
                raise Disconnected(f"{host(feed.url)}: {response.status_code}", retry_after_s(response))
        except Disconnected as error:
            retry_s = feed.poll.missed(error.retry_after_s)
            log.warning(
                "pull.disconnected", source=self.name, address=host(feed.url), why=str(error), retry_in_s=round(retry_s)
            )
            return None
        late, received_us = feed.poll.failed, now_us()
        feed.poll.done()
        if response.status_code == 304:
            return None
        names = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
        feed.asks = {ask: response.headers[name] for name, ask in names.items() if name in response.headers}
        follows, feed.read = feed.read, True
        return Frame(content, received_us, "live" if follows and not late else "gap" if follows else "backlog", follows)


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that none can be
        return False


def _is_sec(url: str) -> bool:
    name = host(url).partition(":")[0]
    return name == "sec.gov" or name.endswith(".sec.gov")
