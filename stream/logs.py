"""The log, to stderr. Events are named `noun.verb`; what varies stands in fields."""

import logging
import sys
from typing import Literal, TextIO

import structlog


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["console", "json"],
    stream: TextIO | None = None,
) -> None:
    """structlog to stderr (or `stream`), for people or as one JSON object a line. Call once, at the process's start."""
    out = sys.stderr if stream is None else stream
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if form == "json":
        rendered: list[structlog.typing.Processor] = [
            structlog.processors.dict_tracebacks,
            structlog.processors.JSONRenderer(ensure_ascii=False, default=str),
        ]
    else:
        rendered = [
            structlog.dev.ConsoleRenderer(
                colors=out.isatty(), timestamp_key="time", exception_formatter=structlog.dev.plain_traceback
            )
        ]
    structlog.configure(
        processors=[*shared, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,  # loggers made at import must follow this call
    )


def speak_up() -> None:
    """Warnings to stderr where the process has not set structlog up by itself: its own default is to print everything,
    to stdout."""
    if not structlog.is_configured():
        configure_logging("warning", "console")
