"""Settings against those who take them: what a start would refuse, found before a server is asked."""

import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing

from earlybird.engine.config import EngineConfig
from earlybird.engine.errors import ConfigError, EngineError
from earlybird.stream import extras
from earlybird.stream.adapters.options_check import kafka_faults
from earlybird.stream.config.report import told
from earlybird.stream.config.settings import Settings
from earlybird.stream.errors import SettingsError
from earlybird.stream.run_worker import open_cache


def check(settings: Settings, faults: Sequence[str] = (), *, model: bool) -> None:
    """Raises SettingsError that names `faults`, those of reading the settings, and all that a start would refuse
    beside them. The model is loaded for it where `model` says so, or where there will be no start anyway."""
    kafka = settings.kafka
    found = [
        *faults,
        *kafka_faults(settings.group, kafka.group_protocol, kafka.options),
        *_redis_faults(settings),
        *_engine_faults(settings),
        *_http_faults(settings),
    ]
    if model or found:
        found += _model_faults(settings)
    if found:
        raise SettingsError(told(list(dict.fromkeys(found))))


def engine_config(settings: Settings) -> EngineConfig:
    """What the engine is asked for: its settings without the two that are the stage's own. Raises ConfigError."""
    wanted = settings.engine.model_dump(exclude={"threads", "consumer_processes"})
    return EngineConfig(model=settings.model, policy=settings.policy, **wanted)


def port_in_use(settings: Settings) -> bool:
    """Whether the port of /healthz is taken at this moment: no fault of the settings, and likely a worker that runs."""
    return _bound(settings) == errno.EADDRINUSE


def _redis_faults(settings: Settings) -> Iterator[str]:
    try:
        open_cache(settings).close()
    except SettingsError as error:
        yield str(error)


def _engine_faults(settings: Settings) -> Iterator[str]:
    if settings.engine.consumer_processes and not hasattr(os, "eventfd"):
        yield f"engine.consumer_processes: needs Linux, was {settings.engine.consumer_processes} on {sys.platform}"
    try:
        engine_config(settings)
    except EngineError as error:
        yield f"engine.{error}"


def _model_faults(settings: Settings) -> Iterator[str]:
    """By the engine that loads it: its folder, its files' hashes, the policy, the device."""
    try:
        config = engine_config(settings)
    except EngineError:
        return  # said by _engine_faults
    try:
        from earlybird.engine.engine import Engine
        from earlybird.engine.exits.spec import parse
    except ModuleNotFoundError as error:
        yield f"the engine needs {error.name}: {extras.install_hint('engine')}"
        return
    try:
        Engine.load(config)
    except ConfigError as error:
        yield str(error)
    except EngineError as error:
        yield str(error)
        if config.policy is not None:  # not reached: judged as far as it can be without the model
            try:
                parse(config.policy, sys.maxsize)
            except ConfigError as fault:
                yield str(fault)


def _http_faults(settings: Settings) -> Iterator[str]:
    fault = _bound(settings)
    if fault not in (None, errno.EADDRINUSE):
        http = settings.http
        reason = fault if isinstance(fault, str) else os.strerror(fault or 0)
        yield f"http: cannot listen on {http.host}:{http.port}: {reason}"


def _bound(settings: Settings) -> int | str | None:
    """Why the address cannot be listened on: errno, or the resolver's words."""
    host, port = settings.http.host, settings.http.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind, protocol)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except socket.gaierror as error:
        return error.strerror or str(error)
    except UnicodeError as error:  # no name of a host
        return str(error)
    except OSError as error:
        return error.errno
    return None
