"""/healthz, /readyz and /metrics on a thread of their own, answered from what the pipeline's threads leave behind."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from stream.errors import SettingsError

LONGEST_BEAT_S = 5.0
"""A loop that has not come round for so long is taken for hung; an orchestrator then restarts the process."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is still missing before texts are served (`waiting`), and what is missing although they are (`degraded`,
    e.g. the duplicate cache: everything is computed then)."""

    waiting: tuple[str, ...] = ()
    degraded: tuple[str, ...] = ()


class HealthServer:
    """Serves from construction until `close`.

    `beat_age_s` says how long ago the pipeline's loop came round: /healthz is 200 below LONGEST_BEAT_S, else 503. It
    never asks a broker, since restarting this process cures no broker. `readiness` decides /readyz. All three
    callables are called on the server's threads and must only read.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        beat_age_s: Callable[[], float],
        readiness: Callable[[], Readiness],
        metrics: Callable[[], bytes],
    ) -> None:
        """`port` 0 takes any free one. Raises SettingsError when the address cannot be had."""

        class Answer(_Answer):
            routes = {  # noqa: RUF012 (one class a server)
                "/healthz": lambda: _health(beat_age_s()),
                "/readyz": lambda: _ready(readiness()),
                "/metrics": lambda: (200, CONTENT_TYPE, metrics()),
            }

        try:
            self._server = ThreadingHTTPServer((host, port), Answer)
        except OSError as error:
            raise SettingsError(
                f"http: cannot listen on {host}:{port}: {error.strerror}; http.port (EARLYBIRD_HTTP__PORT) takes "
                "another, 0 any free one"
            ) from None
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that listens; the chosen one where 0 was asked."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Where to ask, without a path."""
        return f"http://{self._server.server_address[0]!s}:{self.port}"

    def close(self) -> None:
        """Stop listening. Safe to call twice."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Answer(BaseHTTPRequestHandler):
    routes: dict[str, Callable[[], tuple[int, str, bytes]]]

    def do_GET(self) -> None:
        route = self.routes.get(self.path.partition("?")[0])
        status, kind, body = route() if route else (404, "text/plain", b"/healthz, /readyz or /metrics\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Probes come every few seconds and are not worth a line."""


def _health(beat_age_s: float) -> tuple[int, str, bytes]:
    healthy = beat_age_s < LONGEST_BEAT_S
    return _json(healthy, {"healthy": healthy, "beat_age_s": round(beat_age_s, 3)})


def _ready(readiness: Readiness) -> tuple[int, str, bytes]:
    ready = not readiness.waiting
    return _json(ready, {"ready": ready, "waiting": readiness.waiting, "degraded": readiness.degraded})


def _json(good: bool, body: dict[str, object]) -> tuple[int, str, bytes]:
    return 200 if good else 503, "application/json", json.dumps(body).encode() + b"\n"
