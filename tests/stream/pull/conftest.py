"""Local servers that speak the vendors' protocols: HTTP by a script of answers, and websockets."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from earlybird.stream.publishing.line_format import FeedItem, Line
from earlybird.stream.pull.session import Backoff, Session
from earlybird.stream.pull.source import Source
from scripted_web import Asked, Web

PATIENCE_S = 150.0
QUICK = Backoff(first_s=0.02, most_s=0.05)


@pytest.fixture
def web() -> Iterator[Web]:
    """A server on a free port."""
    state = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            asked = Asked(parts.path, query, {name.lower(): value for name, value in self.headers.items()})
            state.asked.append(asked)
            status, headers, content = state.answer(asked)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join(PATIENCE_S)


@pytest.fixture
def socket_server() -> Iterator[Callable[[Callable[[ServerConnection], None]], str]]:
    """Serves websockets with a function of the connection; gives the address."""
    with ExitStack() as stack:

        def start(handle: Callable[[ServerConnection], None]) -> str:
            server: Server = stack.enter_context(serve(handle, "127.0.0.1", 0, close_timeout=1))
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            stack.callback(thread.join, PATIENCE_S)
            stack.callback(server.shutdown)
            return f"ws://127.0.0.1:{server.socket.getsockname()[1]}"

        yield start


@pytest.fixture
def pulled() -> Iterator[Callable[..., list[Line]]]:
    """Runs a source until so many items came, or until a condition holds; all its lines."""
    running: list[Iterator[Line | None]] = []

    def run(source: Source, items: int = 0, until: Callable[[], bool] = lambda: False, **more: Any) -> list[Line]:
        lines = Session(source, backoff=QUICK, **more).lines()
        running.append(lines)
        found: list[Line] = []
        deadline = time.monotonic() + PATIENCE_S
        for line in lines:
            assert time.monotonic() < deadline, f"never came: {found}"
            found += [] if line is None else [line]
            if (items and sum(isinstance(each, FeedItem) for each in found) == items) or until():
                return found
        return found

    yield run
    for lines in running:
        getattr(lines, "close")()  # noqa: B009  ends the connection
