"""Alpaca, Finnhub and X against servers that speak as they do: login, frames, a lost connection, the gap."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from earlybird.schemas.raw import RAW, RawNews, RawTweet
from earlybird.stream.errors import PullError
from earlybird.stream.publishing.line_format import BadLine, FeedItem, Line
from earlybird.stream.pull.alpaca import Alpaca
from earlybird.stream.pull.finnhub import Finnhub
from earlybird.stream.pull.x import X
from scripted_web import Asked, Web

Pulled = Callable[..., list[Line]]
Serve = Callable[[Callable[[ServerConnection], None]], str]


def items(lines: list[Line]) -> list[tuple[RawNews | RawTweet, dict[str, bytes]]]:
    return [(RAW.validate_json(line.value), dict(line.headers)) for line in lines if isinstance(line, FeedItem)]


def told(lines: list[Line]) -> list[tuple[str, str, str]]:
    """Of each item its id, action and origin."""
    return [
        (item.source_item_id, item.action.value, headers.get("pull-origin", b"live").decode())
        for item, headers in items(lines)
    ]


def article(number: int, headline: str = "Norvex opens plant", updated: str = "2026-01-05T10:00:01Z") -> dict[str, Any]:
    return {
        "T": "n", "id": number, "headline": headline, "created_at": "2026-01-05T10:00:00Z", "updated_at": updated,
        "symbols": ["NRVX"],
    }  # fmt: skip


class AlpacaServer:
    """Knows one key; each connection sends its frames and is then cut, the last one stays."""

    def __init__(self, *connections: list[list[dict[str, Any]]]) -> None:
        self.connections, self.said, self.number = connections, list[Any](), 0

    def __call__(self, socket: ServerConnection) -> None:
        frames = self.connections[min(self.number, len(self.connections) - 1)]
        self.number += 1
        self._send(socket, [{"T": "success", "msg": "connected"}])
        login = json.loads(socket.recv())
        if login != {"action": "auth", "key": "id", "secret": "hush"}:
            self._send(socket, [{"T": "error", "code": 402, "msg": "auth failed"}])
            return
        self._send(socket, [{"T": "success", "msg": "authenticated"}])
        self.said.append(json.loads(socket.recv()))
        self._send(socket, [{"T": "subscription", "news": self.said[-1]["news"]}])
        for frame in frames:
            self._send(socket, frame)
        if self.number < len(self.connections):
            socket.socket.close()  # no closing handshake: as a lost network
            return
        with suppress(ConnectionClosed):
            socket.recv()

    @staticmethod
    def _send(socket: ServerConnection, frame: list[dict[str, Any]]) -> None:
        socket.send(json.dumps(frame))


def history(asked: Asked) -> tuple[int, dict[str, str], bytes]:
    """Two pages: what was sent before, its edit, and what was missed."""
    if asked.headers["apca-api-secret-key"] != "hush":
        return 403, {}, b"{}"
    if "page_token" not in asked.query:
        page: dict[str, Any] = {"news": [article(1), article(3, "Norvex shuts plant")], "next_page_token": "more"}
    else:
        page = {"news": [article(2, "Norvex cuts outlook", "2026-01-05T11:00:00Z")], "next_page_token": None}
    return 200, {}, json.dumps(page).encode()


def test_alpaca_goes_on_after_a_lost_connection_without_a_hole(web: Web, socket_server: Serve, pulled: Pulled) -> None:
    """What was missed comes from its history, marked; what it repeats is skipped, and an edit in it is an update."""
    server = AlpacaServer([[article(1)], [article(2), article(1)]], [[article(4)]])
    web.answer = history
    url = socket_server(server)
    with capture_logs() as logged:
        lines = pulled(Alpaca("id", "hush", ["NRVX"], "test", url, web.url), items=5)
    assert told(lines) == [
        ("1", "create", "live"), ("2", "create", "live"), ("3", "create", "gap"), ("2", "update", "gap"),
        ("4", "create", "live"),
    ]  # fmt: skip
    assert {item.ingested_origin for item, _ in items(lines)} == {"observed"}
    events = [each["event"] for each in logged]
    assert events == ["pull.connected", "pull.disconnected", "pull.connected", "pull.gap_filled"]
    assert logged[-1]["items"] == 2
    assert [each["news"] for each in server.said] == [["NRVX"], ["NRVX"]]
    assert web.asked[0].query["symbols"] == "NRVX" and web.asked[0].query["sort"] == "asc"
    assert "hush" not in str(logged)


def test_alpacas_backlog_is_asked_for_only_on_demand(web: Web, socket_server: Serve, pulled: Pulled) -> None:
    """And what is older than asked for is left out, though the vendor sends it."""
    web.answer = history
    url = socket_server(AlpacaServer([[article(4)]]))
    assert told(pulled(Alpaca("id", "hush", [], "test", url, web.url), items=1)) == [("4", "create", "live")]
    assert not web.asked
    since_us = int(1767610200e6)  # 10:50
    lines = pulled(Alpaca("id", "hush", [], "test", url, web.url), items=2, since_us=since_us)
    assert told(lines) == [("2", "create", "backlog"), ("4", "create", "live")]


@pytest.mark.parametrize("status", [500, 403])
def test_a_history_that_fails_is_said_and_the_stream_goes_on(
    web: Web, socket_server: Serve, pulled: Pulled, status: int
) -> None:
    """A hole that is known is better than a stream that stands still."""
    web.answer = lambda _: (status, {}, b"")
    url = socket_server(AlpacaServer([[article(1)]], [[article(4)]]))
    with capture_logs() as logged:
        lines = pulled(Alpaca("id", "hush", [], "test", url, web.url), items=2)
    assert told(lines) == [("1", "create", "live"), ("4", "create", "live")]
    (gap,) = [each for each in logged if each["event"] == "pull.gap_open"]
    assert f": {status}" in gap["why"] and gap["since"].startswith("20")


def test_a_wrong_key_ends_alpaca_at_once(web: Web, socket_server: Serve, pulled: Pulled) -> None:
    """Trying again cannot help; the setting is named, the key is not."""
    url = socket_server(AlpacaServer([]))
    with pytest.raises(PullError, match=r"402: auth failed; is pull\.alpaca_key_id, pull\.alpaca_secret_key right"):
        pulled(Alpaca("id", "wrong", [], "test", url, web.url))


def test_a_second_connection_is_tried_again(web: Web, socket_server: Serve, pulled: Pulled) -> None:
    """The account's earlier connection may be our own, not yet noticed as gone."""

    def handle(socket: ServerConnection) -> None:
        socket.send(json.dumps([{"T": "error", "code": 406, "msg": "connection limit exceeded"}]))

    with capture_logs() as logged:
        source = Alpaca("id", "hush", [], "test", socket_server(handle), web.url)
        pulled(source, until=lambda: any(each["event"] == "pull.disconnected" for each in logged))
    (lost,) = [each for each in logged if each["event"] == "pull.disconnected"]
    assert lost["why"].endswith("406: connection limit exceeded") and lost["retry_in_s"] >= 10


def test_an_article_that_cannot_be_read_costs_itself_alone(web: Web, socket_server: Serve, pulled: Pulled) -> None:
    """Nor does a frame that is no JSON."""
    frames = [[article(1) | {"created_at": "noon"}, article(2)], [{"T": "n", "headline": "no id"}], [article(3)]]
    lines = pulled(Alpaca("id", "hush", [], "test", socket_server(AlpacaServer(frames)), web.url), items=2)
    assert told(lines) == [("2", "create", "live"), ("3", "create", "live")]
    assert [line.why for line in lines if isinstance(line, BadLine)] != []


def finnhub_article(number: int, second: int) -> dict[str, Any]:
    return {
        "id": number, "headline": f"Norvex item {number}", "datetime": second, "related": "NRVX", "source": "wire",
        "summary": "", "category": "company", "url": "",
    }  # fmt: skip


def test_finnhub_goes_on_after_a_lost_connection_without_a_hole(web: Web, socket_server: Serve, pulled: Pulled) -> None:
    """Its history knows whole days: what is older than the gap is left out. The token is in no log."""
    now_s, subscribed, tokens = int(time.time()), list[Any](), list[str]()

    def handle(socket: ServerConnection) -> None:
        assert socket.request is not None
        tokens.append(socket.request.path)
        subscribed.append(json.loads(socket.recv()))
        socket.send('{"type":"ping"}')
        number = len(tokens)
        socket.send(json.dumps({"type": "news", "data": [finnhub_article(number, now_s * 1000)]}))
        if number == 1:
            socket.close()
            return
        with suppress(ConnectionClosed):
            socket.recv()

    old, missed = finnhub_article(7, now_s - 40_000), finnhub_article(8, now_s)
    web.answer = lambda _: (200, {}, json.dumps([missed, finnhub_article(1, now_s), old]).encode())
    with capture_logs() as logged:
        lines = pulled(Finnhub("hush", ["NRVX"], "test", socket_server(handle), web.url), items=3)
    assert told(lines) == [("1", "create", "live"), ("8", "create", "gap"), ("2", "create", "live")]
    assert subscribed == [{"type": "subscribe-news", "symbol": "NRVX"}] * 2 and tokens == ["/?token=hush"] * 2
    assert web.asked[0].query["symbol"] == "NRVX" and web.asked[0].headers["x-finnhub-token"] == "hush"
    assert "hush" not in str(logged) and "hush" not in web.asked[0].path + str(web.asked[0].query)


def test_what_finnhub_refuses_is_said(web: Web, socket_server: Serve, pulled: Pulled) -> None:
    """In its own words, and tried again."""
    count: list[int] = []

    def handle(socket: ServerConnection) -> None:
        count.append(1)
        socket.send('{"type": "error", "msg": "Subscribing to too many symbols"}')
        with suppress(ConnectionClosed):
            socket.recv()
            socket.recv()

    with capture_logs() as logged:
        pulled(Finnhub("hush", ["NRVX"], "test", socket_server(handle), web.url), until=lambda: len(count) == 2)
    lost = [each for each in logged if each["event"] == "pull.disconnected"]
    assert lost[0]["why"].endswith(": Subscribing to too many symbols")


class XServer:
    """A response without end: each connection sends its lines, then ends or stays silent."""

    def __init__(self, *connections: list[bytes]) -> None:
        import socket

        self.connections, self.requests, self._open = connections, list[str](), list[Any]()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/2/tweets/search/stream"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for lines in self.connections:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.requests.append(client.recv(65_536).decode())
            if lines and lines[0].startswith(b"HTTP"):
                client.sendall(lines[0])
                client.close()
                continue
            client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for line in lines:
                client.sendall(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            self._open.append(client)
            if lines and lines[-1] == b"":
                client.close()

    def close(self) -> None:
        import socket

        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        for client in self._open:
            client.close()


def post(number: int, **more: object) -> bytes:
    data = {"id": str(number), "text": "$NRVX up", "created_at": "2026-01-05T10:00:00.000Z", "lang": "en"} | more
    return json.dumps({"data": data, "matching_rules": []}).encode() + b"\r\n"


@pytest.fixture
def x_server() -> Iterator[Callable[..., XServer]]:
    started: list[XServer] = []

    def start(*connections: list[bytes]) -> XServer:
        started.append(XServer(*connections))
        return started[-1]

    yield start
    for server in started:
        server.close()


def test_x_goes_on_after_an_end_and_after_a_silence(x_server: Callable[..., XServer], pulled: Pulled) -> None:
    """A line may come in pieces; an edit is an update of the first post; the gap is asked for in minutes."""
    edit = post(12, text="$NRVX down", edit_history_tweet_ids=["11", "12"])
    server = x_server(
        [post(10)[:20], post(10)[20:] + b"\r\n" + post(11), b""],  # ended by the server
        [post(11), edit],  # and then not even a keep-alive
        [post(13)],
    )
    with capture_logs() as logged:
        lines = pulled(X("hush", "test", True, server.url, silence_s=3.0), items=4)
    assert told(lines) == [
        ("10", "create", "live"), ("11", "create", "live"), ("11", "update", "live"), ("13", "create", "live"),
    ]  # fmt: skip
    assert [request.split()[1].count("backfill_minutes=") for request in server.requests] == [0, 1, 1]
    assert all("authorization: bearer hush" in request.lower() for request in server.requests)
    whys = [each["why"].rpartition(" ")[2] for each in logged if each["event"] == "pull.disconnected"]
    assert whys[1:] == ["ReadTimeout"] and len(whys) == 2 and "hush" not in str(logged)


def test_an_end_that_x_announces_is_one(x_server: Callable[..., XServer], pulled: Pulled) -> None:
    """It need not close the connection for that; what is beside a post is no announcement."""
    beside = post(10)[:-3] + b', "errors": [{"title": "Not Found"}]}\r\n'
    server = x_server([beside, b'{"errors":[{"title":"operational-disconnect"}]}\r\n'], [post(11)])
    with capture_logs() as logged:
        lines = pulled(X("hush", "test", False, server.url), items=2)
    assert [each[0] for each in told(lines)] == ["10", "11"]
    (lost,) = [each for each in logged if each["event"] == "pull.disconnected"]
    assert lost["why"].endswith("ended by X, operational disconnect")


@pytest.mark.parametrize(
    ("answer", "wait_s"),
    [(b"HTTP/1.1 429 Too Many\r\nRetry-After: 42\r\nContent-Length: 0\r\n\r\n", 42),
     (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", 0)],
)  # fmt: skip
def test_x_waits_for_as_long_as_it_is_told(
    x_server: Callable[..., XServer], pulled: Pulled, answer: bytes, wait_s: float
) -> None:
    """A connection too many locks out for longer the sooner it is tried again."""
    server = x_server([answer])
    with capture_logs() as logged:
        pulled(
            X("hush", "test", False, server.url), until=lambda: any(e["event"] == "pull.disconnected" for e in logged)
        )
    assert logged[0]["retry_in_s"] >= wait_s


def test_a_wrong_token_ends_x_at_once(x_server: Callable[..., XServer], pulled: Pulled) -> None:
    """The setting is named."""
    server = x_server([b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"])
    with pytest.raises(PullError, match=r"401, refused: is pull\.x_bearer_token right"):
        pulled(X("wrong", "test", False, server.url))
