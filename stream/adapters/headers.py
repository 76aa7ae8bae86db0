"""A record's headers, whatever their names are."""

from typing import cast

from confluent_kafka import Message


def headers_of(message: Message) -> tuple[tuple[str, bytes | None], ...]:
    """The headers; none where a name is not UTF-8. confluent_kafka raises then, and the record must be read."""
    try:
        return tuple(cast("list[tuple[str, bytes | None]] | None", message.headers()) or ())
    except (SystemError, UnicodeDecodeError):
        return ()
