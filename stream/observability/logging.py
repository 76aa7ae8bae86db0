"""Configuration of the structured log on stderr.

Events are named `noun.verb`; variable parts are fields. A command configures structlog for its process. A library
must not: modules that a strategy loads take their logger from `get_logger`, so that the strategy's own log stays as
it was.
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
LONGEST_TRACE = 100  # lines; the last ones are kept
_MOST_PARTS = 100  # elements per list or mapping
_DEEPEST = 6
_MOST_LISTED = 8  # partitions that a console line names one by one


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    form: Literal["console", "json"],
    stream: TextIO | None = None,
    **facts: object,
) -> None:
    """Configure structlog for this process: console text or one JSON object per line.

    Lines go to `stream`, by default stderr. Each line carries the `facts`, whichever thread writes it. Call once,
    when the process starts.
    """
    out = sys.stderr if stream is None else stream
    structlog.configure(
        processors=_processors(form, out, facts),
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,  # loggers made at import must follow this call
    )


def failure(error: BaseException) -> dict[str, str]:
    """Return what may be logged of an exception that a message caused.

    That is its type and where it was raised. Its text may quote the message, and logs must not hold licensed text.
    """
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    places = [f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "raised_at": " > ".join(places)}


def worker_name() -> str:
    """Return this process's worker name, as in the log and in heartbeats."""
    return f"{socket.gethostname()}-{os.getpid()}"


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return a logger for modules that run inside a strategy's process.

    It is structlog's logger once the process has configured structlog, before or after this call. Until then
    warnings and errors go to stderr and the rest nowhere: structlog's own default would print everything to the
    strategy's stdout.
    """
    return cast(structlog.typing.FilteringBoundLogger, _Guest(name))


class _Guest:
    """Logger that looks up the process's configuration at each call and changes none."""

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
        # No local variables: some of them hold texts, some hold secrets.
        traces = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, max_frames=20)
        exceptions = structlog.processors.ExceptionRenderer(traces)
        return [*shared, exceptions, _bounded, structlog.processors.JSONRenderer(ensure_ascii=False), _on_one_line]
    plain = structlog.dev.plain_traceback  # with any other the renderer warns that the trace is already text
    console = structlog.dev.ConsoleRenderer(colors=out.isatty(), timestamp_key="time", exception_formatter=plain)
    return [*shared, structlog.processors.format_exc_info, _in_ranges, _escaped, console]


def _bounded(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut long values, so that no message floods the log."""
    return {name: _fitted(value, cut) for name, value in event.items()}


def _on_one_line(_logger: Any, _method: str, rendered: Any) -> str:
    """Keep JSON on one printable line, so that no message drives a reader's terminal."""
    return json_line(rendered)


def _escaped(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Cut and escape values for the console.

    Console output has no parser that would restore control characters.
    """
    return {
        escaped(name): _trace(value) if name == "exception" else _fitted(value, escaped)
        for name, value in event.items()
    }


def _in_ranges(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Show many `partitions` as ranges, e.g. news.raw/0-11; JSON lines list them."""
    named = event.get("partitions")
    if not isinstance(named, list) or len(named) <= _MOST_LISTED:
        return event
    ranges: list[tuple[str, int, int]] = []
    for topic, number in sorted((topic, int(number)) for topic, _, number in (each.rpartition("/") for each in named)):
        known, first, last = ranges[-1] if ranges else ("", 0, 0)
        if (known, last + 1) == (topic, number):
            ranges[-1] = topic, first, number
        else:
            ranges.append((topic, number, number))
    shown = [f"{topic}/{first}" + f"-{last}" * (last > first) for topic, first, last in ranges]
    return {**event, "partitions": shown}


def _trace(text: object) -> str:
    """Indent a stack trace, so that its lines cannot pass for log lines."""
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
