"""Encoding and decoding of messages as JSON."""

from typing import TypeVar

from pydantic import ValidationError

from earlybird.schemas.base import Message
from earlybird.schemas.framing import unframed

M = TypeVar("M", bound=Message)


class DecodeError(ValueError):
    """Bytes that are not the expected message; the text names the first faulty field."""


def encode(message: Message) -> bytes:
    """Encode a message as UTF-8 JSON without spaces, fields in the schema's order.

    A class that extends a message within the process is encoded as that message (see Message.WIRE).
    """
    return message.WIRE.__pydantic_serializer__.to_json(message)


def decode(kind: type[M], content: bytes) -> M:
    """Decode one message of the given kind, in a registry's frame or without. Raises DecodeError."""
    try:
        return kind.model_validate_json(unframed(content))
    except ValidationError as error:
        hint = "in a schema registry's frame, and not JSON: " if content.startswith(b"\0") else ""
        raise DecodeError(hint + describe(error)) from None


def describe(error: ValidationError) -> str:
    """Describe the first fault in one short line, without the offending input.

    Logs must not hold licensed text.
    """
    fault = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"]) or "record"
    return f"{place[:200]}: {fault['msg'][:300]}"  # limited, because both may quote a key or a tag of the input
