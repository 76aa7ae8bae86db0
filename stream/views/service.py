"""The views as a service: topics, address, app and web server, in this order."""

import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from mode import Service

from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.faust_options import credentials
from earlybird.stream.adapters.topics import create_topics, known_topics
from earlybird.stream.config.settings import Settings
from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.observability.health import family_of
from earlybird.stream.views.faust_app import build, partition_of, run
from earlybird.stream.views.lease import Lease
from earlybird.stream.views.state import State
from earlybird.stream.views.topics import views_topics
from earlybird.stream.views.web import Web

log = structlog.get_logger(__name__)

_LOOK_S = 1.0


def serve(settings: Settings, stopped: Callable[[], bool]) -> None:
    """Serve until SIGTERM or SIGINT; raises SystemExit, StreamError.

    `stopped` is asked while `signals` is waited for: the stage's topics are created by `earlybird topics create`.
    """
    _check(settings)
    partitions = _awaited(settings, stopped)
    if partitions is None:
        return
    _create(settings, partitions)
    listening = _listening(settings)
    views = settings.views
    state = State(
        partitions,
        Lease(views.session_timeout_ms / 1000),
        _url(settings, listening),
        half_life_us=round(views.half_life_s * 1e6),
    )
    app = build(settings, state)
    app.service(_server(Web(state, partition_of, SystemClock()).application(), listening, state))
    run(app)


def _check(settings: Settings) -> None:
    credentials(settings.kafka.options)  # raises now what the app would raise once the topics are there
    names = settings.topics
    others = {*(topic.name for topic in names.raw), names.signals, names.control, names.dlq}
    made = {topic.name for topic in views_topics(settings.views, 1)}
    if taken := sorted(made & others) or len(made) < 4:
        raise SettingsError(f"views.topic, views.group: a topic of its own for each use required, was {taken}")


def _awaited(settings: Settings, stopped: Callable[[], bool]) -> int | None:
    """Wait for `signals` and return its partitions; None when stopped before."""
    told = False
    while not stopped():
        try:
            partitions = known_topics(settings.kafka.endpoint).get(settings.topics.signals)
        except SourceError as error:
            if told:  # a broker that was there before is waited for
                log.warning("broker.awaited", reason=str(error))
                continue
            raise
        if partitions is not None:
            return partitions
        if not told:
            log.warning("topic.awaited", topic=settings.topics.signals, hint="earlybird topics create")
        told = True
        time.sleep(_LOOK_S)
    return None


def _create(settings: Settings, partitions: int) -> None:
    """Create missing topics; refuse existing ones whose partitions differ from those of `signals`."""
    known = known_topics(settings.kafka.endpoint)
    wanted = views_topics(settings.views, partitions)
    missing = [topic for topic in wanted if topic.name not in known]
    if missing:
        made = create_topics(settings.kafka.endpoint, missing)
        log.info("views.topics_created", topics=[one.topic.name for one in made if one.outcome == "created"])
        known |= {one.topic.name: one.partitions for one in made}
    if unfit := [f"{topic.name} has {known[topic.name]}" for topic in wanted if known[topic.name] != partitions]:
        raise SettingsError(
            f"{settings.topics.signals} has {partitions} partitions, but {', '.join(unfit)}: stop all views, delete "
            "these topics or choose another views.group; the views are then read anew from signals"
        )


def _listening(settings: Settings) -> socket.socket:
    host, port = settings.http.host, settings.http.port
    try:
        listening = socket.socket(family_of(host), socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        raise SettingsError(
            f"http: cannot listen on {host}:{port}: {error.strerror}; http.port (EARLYBIRD_HTTP__PORT) takes "
            "another, 0 any free one"
        ) from None
    return listening


def _url(settings: Settings, listening: socket.socket) -> str:
    """Return the address that other workers use; unique per worker."""
    if settings.views.url is not None:
        return settings.views.url
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.getfqdn()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _server(application: web.Application, listening: socket.socket, state: State) -> Any:
    class Server(Service):  # type: ignore[misc, unused-ignore]
        """The web server, for the life of the app."""

        runner: web.AppRunner | None = None

        async def on_start(self) -> None:
            self.runner = web.AppRunner(application, access_log=None)
            await self.runner.setup()
            await web.SockSite(self.runner, listening).start()
            log.info("views.started", url=state.url, port=urlsplit(state.url).port)

        async def on_stop(self) -> None:
            if self.runner is not None:
                await self.runner.cleanup()

    return Server
