"""Instants as a strategy writes them."""

from datetime import datetime

from stream.field_map import instant_us
from stream.history.availability import parse_duration_us
from stream.ports import Clock

Instant = int | str | datetime
"""Epoch microseconds, ISO 8601 with an offset from UTC, a datetime that knows its zone, or how long ago: "-2h"."""


def epoch_us(instant: Instant, clock: Clock) -> int:
    """Raises ValueError for one outside 1973 to 2100, or without a zone; SettingsError for no duration."""
    if isinstance(instant, str) and instant.startswith("-"):
        return clock.now_us() - parse_duration_us(instant[1:])
    return instant_us(str(instant) if isinstance(instant, datetime) else instant, None)
