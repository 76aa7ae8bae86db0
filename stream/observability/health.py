"""Serve /healthz, /readyz and /metrics on threads of its own.

Answers come from values that the pipeline's threads publish.
"""

import json
import math
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, Self

import structlog

from earlybird.stream.errors import SettingsError

log = structlog.get_logger(__name__)

LIVENESS_TIMEOUT_S = 5.0
"""A loop without an iteration for so long counts as hung; an orchestrator then restarts the process."""

LIFETIME_S = 10.0  # per connection, from accept to the last byte of its response
MOST_CONNECTIONS = 32  # at once; one more replaces the oldest
LARGEST_HEAD = 8_192  # bytes, request line and headers together

Page = tuple[HTTPStatus, str, bytes]
"""Status, content type and body."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is missing before texts are served, and what is missing while they are.

    `waiting` keeps /readyz at 503. `degraded` does not, e.g. without the duplicate cache every text is computed.
    """

    waiting: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()


class HealthServer:
    """HTTP server for health and metrics, from construction until `close`.

    `loop_age_s` returns the time since the pipeline last looped: /healthz is 200 below LIVENESS_TIMEOUT_S, else 503.
    It never asks a broker, since restarting this process repairs no broker. `readiness` decides /readyz. `metrics`
    maps a scraper's Accept header to content type and text. All three are called on the server's threads and must
    only read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        loop_age_s: Callable[[], float],
        readiness: Callable[[], Readiness],
        metrics: Callable[[str], tuple[str, bytes]],
    ) -> None:
        """Listen on `host` and `port`; port 0 takes any free one.

        Raises SettingsError when the address cannot be bound.
        """
        routes: dict[str, Callable[[str], Page]] = {
            "/healthz": lambda _: _health(loop_age_s()),
            "/readyz": lambda _: _ready(readiness()),
            "/metrics": lambda accepted: (HTTPStatus.OK, *metrics(accepted)),
        }
        try:
            self._server = _Server(host, port, routes)
        except (OSError, UnicodeError) as error:  # UnicodeError: the host is not a valid name
            reason = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(
                f"http: cannot listen on {host}:{port}: {reason}; http.port (EARLYBIRD_HTTP__PORT) takes "
                "another, 0 any free one"
            ) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Port that listens; the chosen one where 0 was given."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """Base URL of the server, without a path."""
        host = str(self._server.server_address[0])
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def reach(self) -> str:
        """Text for the log: which clients can connect."""
        host = str(self._server.server_address[0])
        local = host.startswith("127.") or host == "::1"
        return "this machine only; http.host=0.0.0.0 lets probes and scrapers in" if local else "the network"

    def close(self) -> None:
        """Stop listening; safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def family_of(host: str) -> socket.AddressFamily:
    """Return the address family in which the server binds this host."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _Server(ThreadingTCPServer):
    """TCP server with few connections, a thread for each, and a bounded lifetime.

    So a slow or silent client cannot keep a probe out.
    """

    allow_reuse_address = daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str, port: int, routes: dict[str, Callable[[str], Page]]) -> None:
        self.routes = routes
        self._since: dict[socket.socket, float] = {}  # time of accept; infinite once ended, until its thread has ended
        self._lock = threading.Lock()
        self.address_family = family_of(host)
        super().__init__((host, port), _Exchange)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._since)

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 (the base class's signature)
        """Make room for a connection by ending the oldest.

        False: there is no room yet, since the threads of ended connections still run.
        """
        with self._lock:
            if len(self._since) >= MOST_CONNECTIONS:
                self._end(min(self._since, key=self._since.__getitem__))
            room = len(self._since) < 2 * MOST_CONNECTIONS
            if room:
                self._since[request] = time.monotonic()
        return room

    def service_actions(self) -> None:
        """End connections older than LIFETIME_S; called ten times per second."""
        ended = time.monotonic() - LIFETIME_S
        with self._lock:
            for connection in [one for one, since in self._since.items() if since < ended]:
                self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        """Shut down both directions, which wakes the connection's blocked thread."""
        self._since[connection] = math.inf
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection at its end."""
        with self._lock:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log an error of ours; errors of clients never get here."""
        log.exception("health.failed")


class _Exchange(BaseRequestHandler):
    """One request and one response, as in HTTP/1.0."""

    server: _Server
    request: socket.socket

    def handle(self) -> None:
        with suppress(OSError):  # the client has left, or its connection was ended
            head = self._head()
            if head:
                self.request.sendall(_answer(head, self.server.routes))

    def _head(self) -> bytes:
        """Return request line and headers; empty when the client left before their end.

        A head longer than LARGEST_HEAD is returned incomplete.
        """
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head and len(head) <= LARGEST_HEAD:
            received = self.request.recv(LARGEST_HEAD)
            if not received:
                return b""
            head += received
        return head


def _answer(head: bytes, routes: dict[str, Callable[[str], Page]]) -> bytes:
    line, *headers = head.decode("latin-1").splitlines()
    words = line.split()
    fields = (header.partition(":") for header in headers)
    accepted = next((value.strip() for name, _, value in fields if name.lower() == "accept"), "")
    allow = b""
    if len(head) > LARGEST_HEAD:
        status, kind, body = _text(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {LARGEST_HEAD} bytes")
    elif len(words) != 3 or not words[2].startswith("HTTP/1."):
        status, kind, body = _text(HTTPStatus.BAD_REQUEST, "no HTTP/1 request")
    elif words[0] not in ("GET", "HEAD"):
        status, kind, body = _text(HTTPStatus.METHOD_NOT_ALLOWED, "GET or HEAD")
        allow = b"Allow: GET, HEAD\r\n"
    elif (route := routes.get(words[1].partition("?")[0])) is None:
        status, kind, body = _text(HTTPStatus.NOT_FOUND, ", ".join(routes))
    else:
        status, kind, body = _asked(route, accepted)
    start = f"HTTP/1.0 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    rest = b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    return start.encode() + allow + rest + (b"" if words[:1] == ["HEAD"] else body)


def _asked(route: Callable[[str], Page], accepted: str) -> Page:
    try:
        return route(accepted)
    except Exception:
        log.exception("health.failed")
        return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "see the log")


def _health(loop_age_s: float) -> Page:
    healthy = loop_age_s < LIVENESS_TIMEOUT_S
    return _json(healthy, {"healthy": healthy, "loop_age_s": round(loop_age_s, 3)})


def _ready(readiness: Readiness) -> Page:
    ready = not readiness.waiting
    return _json(ready, {"ready": ready, "waiting": readiness.waiting, "degraded": readiness.degraded})


def _json(good: bool, body: dict[str, object]) -> Page:
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return status, "application/json", json.dumps(body).encode() + b"\n"


def _text(status: HTTPStatus, text: str) -> Page:
    return status, "text/plain", text.encode() + b"\n"
