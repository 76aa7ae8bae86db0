"""A record's headers, whatever their names are."""

from collections.abc import Callable
from operator import methodcaller

from confluent_kafka import Message

Headers = list[tuple[str, bytes | None]]

# For a name that is not UTF-8 confluent_kafka returns a list with an exception set. The interpreter's own fast path for
# a method call does not look for that, and a later call would raise it; a call from C does.
_headers: Callable[[Message], Headers | None] = methodcaller("headers")


def headers_of(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    """The headers; none where a name is not UTF-8."""
    try:
        return tuple(_headers(message) or ())
    except (SystemError, UnicodeDecodeError):
        return ()
