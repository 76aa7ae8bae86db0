"""Alpaca's news: its stream, and after a gap its REST endpoint.

The vendor's SDK decodes the frames and reconnects by itself without a word, so that neither the bytes nor a gap can be
seen; the protocol is a login and a subscription.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from earlybird.stream.errors import PullError
from earlybird.stream.pull.source import Disconnected, Frame
from earlybird.stream.pull.web import Http, host, messages, now_us, websocket

log = structlog.get_logger(__name__)

STREAM_URL = "wss://stream.data.alpaca.markets/v1beta1/news"
HISTORY_URL = "https://data.alpaca.markets/v1beta1/news"

_SECRET = "pull.alpaca_key_id, pull.alpaca_secret_key"
_REFUSED = (402, 409)  # wrong key; a subscription that the account does not include
_TOO_MANY = 406  # one connection per account: the one before ours may take a while to be noticed as gone
_TOO_MANY_S = 10.0
_PAGE = 50
_MOST_PAGES = 1_000


class Alpaca:
    """News of some symbols, or of all."""

    name = "alpaca"
    answering = True

    def __init__(
        self, key_id: str, secret_key: str, symbols: Sequence[str], user_agent: str,
        url: str = STREAM_URL, history_url: str = HISTORY_URL,
    ) -> None:  # fmt: skip
        self._key_id, self._secret_key, self._symbols, self._agent = key_id, secret_key, list(symbols), user_agent
        self._url, self._history_url, self.address = url, history_url, host(url)
        self._http = Http({"APCA-API-KEY-ID": key_id, "APCA-API-SECRET-KEY": secret_key, "User-Agent": user_agent})

    def frames(self, since_us: int | None) -> Iterator[Frame | None]:
        """Log in, subscribe, read what was missed, and yield what comes."""
        login = {"action": "auth", "key": self._key_id, "secret": self._secret_key}
        with websocket(self._url, self._agent, _SECRET) as socket:
            incoming = messages(socket)
            self._await(incoming, "connected")
            socket.send(json.dumps(login))
            self._await(incoming, "authenticated")
            socket.send(json.dumps({"action": "subscribe", "news": self._symbols or ["*"]}))
            self._await(incoming, "subscription")
            if since_us is not None:
                yield from self._history(since_us)
            yield None
            for content in incoming:
                if content is not None and b'"error"' in content:
                    self._refuse(content)
                yield None if content is None else Frame(content, now_us())

    def _await(self, incoming: Iterator[bytes | None], word: str) -> None:
        silent = 0
        for content in incoming:
            silent = 0 if content else silent + 1
            if silent > 10:
                raise Disconnected(f"{self.address}: no answer where {word!r} was expected")
            for message in [] if content is None else _objects(content):
                if message.get("T") == "error":
                    self._refuse(content or b"")
                if word in (message.get("T"), message.get("msg")):
                    return

    def _refuse(self, content: bytes) -> None:
        for message in _objects(content):
            if message.get("T") == "error":
                code, why = message.get("code"), f"{self.address}: {message.get('code')}: {message.get('msg')}"
                if code in _REFUSED:
                    raise PullError(f"{why}; is {_SECRET} right?")
                raise Disconnected(why, _TOO_MANY_S if code == _TOO_MANY else 0.0)

    def _history(self, since_us: int) -> Iterator[Frame]:
        start = datetime.fromtimestamp(since_us / 1e6, UTC).isoformat().replace("+00:00", "Z")
        query: dict[str, Any] = {"start": start, "sort": "asc", "limit": _PAGE, "include_content": "true"}
        if self._symbols:
            query["symbols"] = ",".join(self._symbols)
        try:
            for _ in range(_MOST_PAGES):
                content = self._http.document(self._history_url, query, _SECRET)
                yield Frame(content, now_us(), "gap")
                token = _next_page(content)
                if token is None:
                    return
                query["page_token"] = token
            why = f"more than {_MOST_PAGES} pages"
        except (Disconnected, PullError) as error:  # a refusal, too: the stream itself was not refused
            why = str(error)
        log.warning("pull.gap_open", source=self.name, address=self.address, since=start, why=why)


def _next_page(content: bytes) -> str | None:
    try:
        page = json.loads(content)
    except ValueError:
        return None  # the parser names it
    token = page.get("next_page_token") if isinstance(page, dict) else None
    return token if isinstance(token, str) and token else None


def _objects(content: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(content)
    except ValueError:
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
