"""Grammar of instants and durations for commands, the client and mapped feeds.

What a person writes (an option of a command, an argument of the client):

    instant    2024-05-01T13:00:00Z   ISO 8601; UTC where it names no zone, and a date alone is its midnight in UTC
               1714568400             an epoch in s, ms, us or ns; from 1973 to 2100 the number of digits shows the unit
               now, -2h, now-2h       relative to the clock
    duration   250ms, 1.5s, 5m, 2h, 1d, 40us, 0

The client also takes an int, a datetime with a zone (one without means local time in Python, and is refused), a date
and a timedelta. In a feed's data nothing is guessed, since an hour's error is an hour of look-ahead: an instant names
its offset from UTC, or the map says that there is none to name (`iso-utc`, a pattern without zone).

Known zones are numeric offsets, Z, UT, UTC, GMT, and in RFC 2822 and %Z its eight American names. -0000 is UTC, as in
RFC 5322: it leaves open only where the sender was. Any other name (ET, BST, CEST, ...) is refused: many are ambiguous.
A 60th second and hour 24 are refused too, since the clocks of Kafka and Python do not have them.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.stream.errors import InvalidTime

Instant = int | str | datetime | date
"""An instant in the grammar above. An int is an epoch in s, ms, us or ns."""

Duration = str | timedelta
"""A duration in the grammar above."""

INSTANT_FORMS = "2024-05-01T13:00Z, 2024-05-01, 1714568400, now or -2h"
DURATION_FORMS = "250ms, 1.5s, 5m, 2h or 1d"
FEED_FORMS = ("s", "ms", "us", "ns", "iso", "iso-utc", "rfc2822")
"""Named forms of a feed's times; any other form is a strptime pattern."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PROBE = datetime(2001, 11, 23, 16, 5, 7, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LONGEST_US = LATEST_US
_UNITS_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_EPOCH_UNITS = {"s": Decimal(1_000_000), "ms": Decimal(1_000), "us": Decimal(1), "ns": Decimal("0.001")}
_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)(us|ms|s|m|h|d)", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?([eE]\+?\d{1,2})?", re.ASCII)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,12}))?)?(?: ?([A-Za-z]\w*|[+-]\d[\d:]*))?)?"
    r"|(\d{4})(\d\d)(\d\d)[Tt](\d\d)(\d\d)(\d\d)?()([A-Za-z]|[+-]\d[\d:]*)?",
    re.ASCII,
)
_RFC2822 = re.compile(
    r"(?:[A-Za-z]{3,9},?\s*)?(\d{1,2})[\s-]+([A-Za-z]{3})[a-z]{0,6}[\s-]+(\d{2,4})\s+"
    r"(\d{1,2}):(\d\d)(?::(\d\d))?\s*(\S.*)?",
    re.ASCII,
)
_OFFSET = re.compile(r"([+-])(\d\d)(?::?(\d\d))?", re.ASCII)
_LITERAL_ZONE = re.compile(r"\b(?!(?:UTC?|GMT)\b)[A-Z]{2,5}\b|\b(?!(?i:UTC?|GMT)\b)[A-Za-z]{2,5}\s*$|[+-]\d[\d:]*\s*$")
_LONGEST_TEXT = 200
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_UTC_NAMES = ("Z", "UT", "UTC", "GMT")
_AMERICAN = {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}  # RFC 2822, 4.3


def instant_us(given: Instant, now_us: int, name: str = "instant") -> int:
    """Return epoch microseconds of an instant that a person wrote.

    `name` is its place in error messages. Raises InvalidTime.
    """
    try:
        return _between(_written(given, now_us))
    except (ValueError, OverflowError) as error:
        raise InvalidTime(f"{name}: {error}, was {_shown(given)}; write {INSTANT_FORMS}") from None


def duration_us(given: Duration, name: str = "duration") -> int:
    """Return microseconds of a duration that a person wrote.

    `name` is its place in error messages. Raises InvalidTime.
    """
    if isinstance(given, timedelta):
        length_us = given // _MICROSECOND
    else:
        text = given.strip() if isinstance(given, str) else ""
        match = _DURATION.fullmatch(text)
        if match is None and text != "0":
            raise InvalidTime(f"{name}: a duration with its unit expected, was {_shown(given)}; write {DURATION_FORMS}")
        length_us = int(Decimal(match[1]) * _UNITS_US[match[2]]) if match else 0
    if not 0 <= length_us <= _LONGEST_US:
        raise InvalidTime(f"{name}: a duration of 0 to 130 years expected, was {_shown(given)}")
    return length_us


def written(at_us: int) -> str:
    """Return the instant as ISO 8601 in UTC, for messages."""
    return (_EPOCH + timedelta(microseconds=at_us)).isoformat().replace("+00:00", "Z")


def plausible_us(value: object) -> int | None:
    """Return a JSON value that is a plausible instant in epoch microseconds, else None."""
    return value if type(value) is int and EARLIEST_US <= value <= LATEST_US else None


def check_feed_form(form: str) -> None:
    """Raise ValueError unless a feed's times can have this form."""
    if form in FEED_FORMS:
        return
    if "%" not in form:
        raise ValueError(f"{', '.join(FEED_FORMS)} or a % pattern expected, was {form!r}")
    if zone := _LITERAL_ZONE.search(re.sub(r"%[-#]?.", " ", form)):
        raise ValueError(f"{zone[0].strip()!r} as plain text would be read as UTC (write %z, or %Z at the end)")
    if "%Z" in form.removesuffix("%Z"):
        raise ValueError("%Z (the name of a zone) is read at the end only")
    if ("%I" in form) is not ("%p" in form):
        raise ValueError("%I (hour of 12) and %p (AM or PM) are read together only; %H is the hour of 24")
    try:
        read = datetime.strptime(_PROBE.strftime(form.replace("%Z", "%z")), form.replace("%Z", "%z"))
    except (ValueError, re.error) as error:
        raise ValueError(f"{form!r} is no strptime pattern ({error})") from None
    if read.date() != _PROBE.date():
        raise ValueError(f"{form!r} does not name the day")


def feed_us(given: Any, form: str | None) -> int:
    """Return epoch microseconds of an instant in a feed's data, in this form.

    Without a form, a number is microseconds and a text is ISO 8601 with its offset. Raises ValueError.
    """
    try:
        instant = _fed(given, form)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{error}, was {_shown(given)}") from None
    if EARLIEST_US <= instant <= LATEST_US:
        return instant
    hint = "" if isinstance(given, str) else _unit_hint(given)
    raise ValueError(f"outside 1973 to 2100, was {_shown(given)}" + (hint or (f" ({form})" if form else "")))


def _fed(given: Any, form: str | None) -> int:
    if form in _EPOCH_UNITS or (form is None and not isinstance(given, str)):
        return _scaled(_number(given), form or "us")
    text = str(given) if isinstance(given, str | int | float) else ""
    if form == "rfc2822":
        return _epoch(_rfc2822(text))
    if form is not None and not form.startswith("iso"):
        return _epoch(_strptime(text, form))
    moment = _iso(text)
    if moment.tzinfo is None and form != "iso-utc":
        raise ValueError("no offset from UTC (write :iso-utc if it is UTC)")
    return _epoch(moment)


def _written(given: object, now_us: int) -> int:
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise ValueError("a datetime with a zone expected (one without means local time)")
        return _epoch(given)
    if isinstance(given, date):
        return _epoch(datetime(given.year, given.month, given.day, tzinfo=UTC))
    if isinstance(given, int) and not isinstance(given, bool):
        return _of_any_unit(given)
    if not isinstance(given, str):
        raise ValueError("an instant expected")
    text = given.strip()
    if text == "now":
        return now_us
    if text.startswith(("-", "now-")):
        return now_us - _ago(text.removeprefix("now").removeprefix("-"))
    return _of_any_unit(int(text)) if re.fullmatch(r"\d{9,19}", text, re.ASCII) else _epoch(_iso(text))


def _ago(text: str) -> int:
    try:
        return duration_us(text)
    except InvalidTime:
        raise ValueError(f"a duration like {DURATION_FORMS} expected after -") from None


def _of_any_unit(number: int) -> int:
    """Return the instant of an epoch in whichever unit fits.

    The units' ranges do not overlap: 2100 in one of them is before 1973 in the next.
    """
    for unit in _EPOCH_UNITS:
        if EARLIEST_US <= (instant := _scaled(Decimal(number), unit)) <= LATEST_US:
            return instant
    raise ValueError("outside 1973 to 2100 in s, ms, us and ns")


def _between(instant: int) -> int:
    if not EARLIEST_US <= instant <= LATEST_US:
        raise ValueError("outside 1973 to 2100")
    return instant


def _epoch(moment: datetime) -> int:
    """Return epoch microseconds; a moment without a zone is in UTC."""
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def _scaled(number: Decimal, unit: str) -> int:
    return int(number * _EPOCH_UNITS[unit])


def _number(given: object) -> Decimal:
    if isinstance(given, int | float | str) and not isinstance(given, bool):
        text = repr(given) if isinstance(given, float) else str(given).strip()
        if _NUMBER.fullmatch(text):
            return Decimal(text)
    raise ValueError("a number expected")


def _iso(text: str) -> datetime:
    """Parse ISO 8601; the result has a zone only if the text names one.

    Fractions below a microsecond are cut off.
    """
    match = _ISO.fullmatch(text.strip()) if len(text) <= _LONGEST_TEXT else None
    if match is None:
        raise ValueError("ISO 8601 expected")
    groups = match.groups()
    year, month, day, hour, minute, second, fraction, zone = groups[:8] if groups[0] else groups[8:]
    moment = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0),
        int((fraction or "0")[:6].ljust(6, "0")),
    )  # fmt: skip
    return moment if zone is None else moment.replace(tzinfo=_zone(zone, {}))


def _rfc2822(text: str) -> datetime:
    """Parse RFC 5322 dates, with RFC 822's two-digit years and American zone names.

    Comments are ignored.
    """
    bare = text if len(text) <= _LONGEST_TEXT else ""
    while (shorter := re.sub(r"\([^()]*\)", " ", bare)) != bare:
        bare = shorter
    match = _RFC2822.fullmatch(bare.strip())
    if match is None or match[2].lower() not in _MONTHS:
        raise ValueError("RFC 2822 expected (Wed, 01 May 2024 09:00:00 -0400)")
    if match[7] is None:
        raise ValueError("no zone")
    year = int(match[3])
    if len(match[3]) < 4:  # RFC 5322, 4.3
        year += 2000 if len(match[3]) == 2 and year < 50 else 1900
    month, clock = _MONTHS.index(match[2].lower()) + 1, (int(match[4]), int(match[5]), int(match[6] or 0))
    return datetime(year, month, int(match[1]), *clock, tzinfo=_zone(match[7].strip(), _AMERICAN))


def _strptime(text: str, form: str) -> datetime:
    """Parse a strptime pattern, with an implementation of %Z that keeps the zone.

    Python's takes the machine's own zone names and forgets which it was.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"{form} expected")
    if not form.endswith("%Z"):
        return datetime.strptime(text, form)
    match = re.fullmatch(r"(.*?)([A-Za-z]+)", text.strip(), re.ASCII | re.DOTALL)
    if match is None:
        raise ValueError("the name of a zone expected at the end")
    return datetime.strptime(match[1], form.removesuffix("%Z")).replace(tzinfo=_zone(match[2], _AMERICAN))


def _zone(name: str, named: Mapping[str, int]) -> timezone:
    if name.upper() in _UTC_NAMES:
        return UTC
    if name.upper() in named:
        return timezone(timedelta(hours=named[name.upper()]))
    match = _OFFSET.fullmatch(name)
    if match is None or int(match[2]) > 23 or int(match[3] or 0) > 59:
        known = ", ".join(("+hh:mm", *_UTC_NAMES, *named))
        raise ValueError(f"the zone {_shown(name)} has no certain offset from UTC (known: {known})")
    offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    return timezone(-offset if match[1] == "-" else offset)


def _unit_hint(given: Any) -> str:
    for unit in _EPOCH_UNITS:
        if EARLIEST_US <= _scaled(_number(given), unit) <= LATEST_US:
            return f"; write :{unit} if it is an epoch in {unit}"
    return ""


def _shown(given: object) -> str:
    """Quote, escape and shorten a value for messages."""
    text = ascii(given) if not isinstance(given, datetime | date | timedelta) else str(given)
    return text if len(text) <= 80 else f"{text[:77]}..."
