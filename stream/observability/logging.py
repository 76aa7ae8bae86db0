"""The log, to stderr. Events are named `noun.verb`; what varies stands in fields.

A command sets structlog up for its process. A library must not: whatever a strategy loads takes its logger from
`get_logger`, and the strategy's own log stays as it was.
"""

import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TextIO, cast

import structlog

from earlybird.stream.observability.escape import cut, escaped, json_line

LONGEST_VALUE = 1_000
LONGEST_TRACE = 100  # lines, the last ones
_MOST_PARTS = 100  # of a list or a mapping
_DEEPEST = 6


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


def failure(error: BaseException) -> dict[str, str]:
    """What may be logged of an exception that a message caused: its type and where it was raised. Its text may quote
    the message, and logs must not hold licensed text."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    places = [f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "raised_at": " > ".join(places)}


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
        # Without locals: some of them are texts, some are secrets.
        traces = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
        exceptions = structlog.processors.ExceptionRenderer(traces)
        return [*shared, exceptions, _bounded, structlog.processors.JSONRenderer(ensure_ascii=False), _on_one_line]
    plain = structlog.dev.plain_traceback  # any other makes the renderer warn of a trace that is text already
    console = structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time", exception_formatter=plain)
    return [*shared, structlog.processors.format_exc_info, _escaped, console]


def _bounded(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Nothing that a message brought may flood the log."""
    return {name: _fitted(value, cut) for name, value in event.items()}


def _on_one_line(_logger: Any, _method: str, rendered: Any) -> str:
    """Nor drive the terminal of whoever reads it."""
    return json_line(rendered)


def _escaped(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The same for people, who have no parser that would put control characters back."""
    return {name: _trace(value) if name == "exception" else _fitted(value, escaped) for name, value in event.items()}


def _trace(text: object) -> str:
    """Lines that no line of the log looks like."""
    return "\n".join("    " + escaped(line, LONGEST_VALUE) for line in str(text).splitlines()[-LONGEST_TRACE:])


def _fitted(value: object, fit: Callable[[str, int], str], depth: int = 0) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 128 else "an integer of more than 128 bits"
    if depth < _DEEPEST and isinstance(value, Mapping):
        pairs = list(value.items())[:_MOST_PARTS]
        return {fit(str(name), LONGEST_VALUE): _fitted(part, fit, depth + 1) for name, part in pairs}
    if depth < _DEEPEST and type(value) in (list, tuple, set, frozenset):
        return [_fitted(part, fit, depth + 1) for part in list(cast(Iterable[object], value))[:_MOST_PARTS]]
    return fit(value if isinstance(value, str) else str(value), LONGEST_VALUE)
