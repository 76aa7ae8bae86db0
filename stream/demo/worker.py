"""The demo's worker: the service's group member with slots that can be watched.

    python -m earlybird.stream.demo.worker --socket 5 --pass-ms 150

It tells of its health's address and of each pass on an inherited datagram socket. The message `compare` on it is
answered by a comparison of the texts so far: packed slots beside padded batches, as fast as this machine computes.
"""

import argparse
import json
import socket
import sys
import threading
from contextlib import suppress
from typing import Any

import structlog

from earlybird.engine.errors import EngineError
from earlybird.stream.config.settings import load
from earlybird.stream.errors import StreamError
from earlybird.stream.extras import install_hint
from earlybird.stream.observability.logging import configure_logging, worker_name
from earlybird.stream.observability.watchdog import leave, stop_on_signals

log = structlog.get_logger(__name__)

COMPARE = b"compare"
CANNOT_START = 2
"""Exit status of a worker whose last line says in one sentence what it lacks."""


def main() -> int:
    """Run the watched stage until SIGTERM."""
    try:
        _serve()
    except ModuleNotFoundError as error:
        print(f"the engine needs {error.name}: {install_hint('engine')}", file=sys.stderr)
    except (EngineError, StreamError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)
    else:
        leave(0)
    leave(CANNOT_START)


def _serve() -> None:
    parser = argparse.ArgumentParser(prog="python -m earlybird.stream.demo.worker", description=__doc__)
    parser.add_argument("--socket", type=int, required=True, help="file descriptor of the datagram socket")
    parser.add_argument("--pass-ms", type=float, default=0.0, help="stretch each pass to this time")
    args = parser.parse_args()
    stop = stop_on_signals()
    settings = load()
    configure_logging(settings.log.level, settings.log.format, worker=worker_name(), group=settings.group)
    import torch  # imported late, as in `earlybird run`: stop_on_signals and the settings come first

    from earlybird.stream.adapters.clock import SystemClock
    from earlybird.stream.demo.watch import WatchedEngine
    from earlybird.stream.monitor.passes import Pass
    from earlybird.stream.observability.health import HealthServer
    from earlybird.stream.observability.metrics import Metrics
    from earlybird.stream.run_worker import run_worker
    from earlybird.stream.service import load_engine, origin_of

    torch.set_num_threads(1)  # as in the service, for the same bits
    channel = socket.socket(fileno=args.socket)
    engine = load_engine(settings)

    def tell(told: Pass) -> None:
        with suppress(OSError):  # nobody reads fast enough: a picture is left out, the engine does not wait
            channel.send(told.to_bytes(), socket.MSG_DONTWAIT)

    watched = WatchedEngine(engine, tell, args.pass_ms / 1000)

    def answer() -> None:
        while channel.recv(1024) == COMPARE:
            compared: dict[str, Any] = {}
            try:
                compared = watched.comparison()
            except Exception:  # the demo ends without a comparison rather than waits for it
                log.exception("the comparison failed")
            channel.send(json.dumps({"comparison": compared}).encode())

    def started(_: str, health: HealthServer) -> None:
        channel.send(json.dumps({"health": health.url}).encode())

    threading.Thread(target=answer, name="comparison", daemon=True).start()
    metrics, origin = Metrics(engine.max_layers), origin_of(engine, settings)
    metrics.model(origin.model)
    serve = watched.serve(settings.engine.threads, SystemClock())
    run_worker(settings, watched, origin, metrics, stop, started, serve)


if __name__ == "__main__":
    raise SystemExit(main())
