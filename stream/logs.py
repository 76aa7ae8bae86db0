"""The log, to stderr. Events are named `noun.verb`; what varies stands in fields.

A command sets structlog up for its process. A library must not: whatever a strategy loads takes its logger from
`get_logger`, and the strategy's own log stays as it was.
"""

import logging
import os
import socket
import sys
from collections.abc import Mapping
from typing import Any, Literal, TextIO, cast

import structlog


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["console", "json"],
    stream: TextIO | None = None,
    **facts: object,
) -> None:
    """structlog to stderr (or `stream`), for people or as one JSON object a line; each line carries the `facts`,
    whichever thread writes it. Call once, at the process's start."""
    out = sys.stderr if stream is None else stream
    structlog.configure(
        processors=_processors(form, out, facts),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,  # loggers made at import must follow this call
    )


def worker_name() -> str:
    """What this process's worker is called, in the log and in heartbeats."""
    return f"{socket.gethostname()}-{os.getpid()}"


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """structlog's logger where the process has set structlog up, before or after this call. Until then warnings go to
    stderr and the rest nowhere: structlog's own default would print everything to the strategy's stdout."""
    return cast(structlog.typing.FilteringBoundLogger, _Guest(name))


class _Guest:
    """Chooses anew at each call, and configures nothing."""

    def __init__(self, name: str) -> None:
        self._hosts = structlog.get_logger(name)

    def __getattr__(self, method: str) -> Any:
        return getattr(self._hosts if structlog.is_configured() else _warnings(), method)


def _warnings() -> Any:
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=_processors("console", sys.stderr, {}),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )


def _processors(
    form: Literal["console", "json"], out: TextIO, facts: Mapping[str, object]
) -> list[structlog.typing.Processor]:
    def known(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {**facts, **event}

    shared: list[structlog.typing.Processor] = [
        known,
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if form == "json":
        return [
            *shared,
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    plain = structlog.dev.plain_traceback
    return [
        *shared,
        structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time", exception_formatter=plain),
    ]
