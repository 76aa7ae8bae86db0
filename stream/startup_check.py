"""Checks of the settings for everything a start would refuse, before contacting a server."""

import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing

from earlybird.engine.config import EngineConfig
from earlybird.engine.errors import ConfigError, EngineError, ManifestMismatch, NotAModel
from earlybird.stream import extras
from earlybird.stream.adapters.options_check import kafka_faults
from earlybird.stream.adapters.schema_registry import registry_faults
from earlybird.stream.config.report import as_message
from earlybird.stream.config.settings import Settings, variable_of
from earlybird.stream.errors import SettingsError
from earlybird.stream.feeds.registry import FRAMED
from earlybird.stream.linking.table import SymbolTable
from earlybird.stream.observability.health import family_of
from earlybird.stream.run_worker import open_cache, transactional_id


def check(settings: Settings, faults: Sequence[str] = (), *, model: bool) -> None:
    """Raise SettingsError with `faults` and everything else a start would refuse.

    `faults` are those of reading the settings. The model is loaded for the check if `model` is True, or if there are
    faults anyway.
    """
    found = [
        *faults,
        *_delivery_faults(settings),
        *_redis_faults(settings),
        *_engine_faults(settings),
        *_symbol_faults(settings),
        *_http_faults(settings),
        *_registry_faults(settings),
    ]
    if model or found:
        found += _model_faults(settings)
    if found:
        raise SettingsError(as_message(list(dict.fromkeys(found))))


def engine_config(settings: Settings) -> EngineConfig:
    """Build the engine's config from the settings. Raises ConfigError.

    Leaves out `threads` and `consumer_processes`, which belong to the stage.
    """
    wanted = settings.engine.model_dump(exclude={"threads", "consumer_processes"})
    return EngineConfig(model=settings.model, policy=settings.policy, **wanted)


def engine_fault(error: EngineError) -> str:
    """Return why an engine could not be loaded, with the variable to blame."""
    if isinstance(error, NotAModel | ManifestMismatch):
        return f"{error}{variable_of('model')}"
    return f"{error}{variable_of('policy')}" if str(error).startswith("exit policy") else str(error)


def port_in_use(settings: Settings) -> bool:
    """Return whether the port of /healthz is taken at this moment.

    That is no fault of the settings, and likely a running worker.
    """
    return _bound(settings) == errno.EADDRINUSE


def _delivery_faults(settings: Settings) -> Iterator[str]:
    kafka, place = settings.kafka, None
    try:
        place = transactional_id(settings)
    except SettingsError as error:
        yield str(error)
    if place is not None and not settings.commit_map:
        yield "commit_map: required with delivery exactly_once, was off"
    yield from kafka_faults(settings.group, kafka.group_protocol, kafka.options, place)


def _registry_faults(settings: Settings) -> list[str]:
    topics = settings.topics
    framed = [f"topics.raw, {topic.name}: {topic.format}" for topic in topics.raw if topic.format == FRAMED]
    if topics.signals_format != "json":
        framed.append(f"topics.signals_format: {topics.signals_format}")
    return registry_faults(settings.kafka.options, ", ".join(framed))


def _redis_faults(settings: Settings) -> Iterator[str]:
    try:
        open_cache(settings).close()
    except SettingsError as error:
        yield str(error)


def _symbol_faults(settings: Settings) -> Iterator[str]:
    try:
        if settings.symbols.table is not None:
            SymbolTable.read(settings.symbols.table)
    except SettingsError as error:
        yield from str(error).splitlines()


def _engine_faults(settings: Settings) -> Iterator[str]:
    if settings.engine.consumer_processes and not hasattr(os, "eventfd"):
        yield f"engine.consumer_processes: needs Linux, was {settings.engine.consumer_processes} on {sys.platform}"
    try:
        engine_config(settings)
    except EngineError as error:
        yield f"engine.{error}"


def _model_faults(settings: Settings) -> Iterator[str]:
    """Yield faults found by loading the engine: folder, file hashes, policy, device."""
    try:
        config = engine_config(settings)
    except EngineError:
        return  # reported by _engine_faults
    try:
        from earlybird.engine.engine import Engine
        from earlybird.engine.exits.spec import parse
    except ModuleNotFoundError as error:
        yield f"the engine needs {error.name}: {extras.install_hint('engine')}"
        return
    try:
        Engine.load(config)
    except ConfigError as error:
        yield engine_fault(error)
    except EngineError as error:
        yield engine_fault(error)
        if config.policy is not None:  # not checked yet: parse it as far as possible without the model
            try:
                parse(config.policy, sys.maxsize)
            except ConfigError as fault:
                yield engine_fault(fault)


def _http_faults(settings: Settings) -> Iterator[str]:
    fault = _bound(settings)
    if fault not in (None, errno.EADDRINUSE):
        http = settings.http
        reason = fault if isinstance(fault, str) else os.strerror(fault or 0)
        yield f"http: cannot listen on {http.host}:{http.port}: {reason}"


def _bound(settings: Settings) -> int | str | None:
    """Return why the address cannot be bound: errno or the resolver's message.

    None if it can be bound.
    """
    host, port = settings.http.host, settings.http.port
    try:
        with closing(socket.socket(family_of(host), socket.SOCK_STREAM)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except socket.gaierror as error:
        return error.strerror or str(error)
    except UnicodeError as error:  # not a valid host name
        return str(error)
    except OSError as error:
        return error.errno
    return None
