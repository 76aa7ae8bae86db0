"""bytes <-> message, JSON by default."""

from typing import TypeVar

from pydantic import ValidationError

from earlybird.schemas.base import Message

M = TypeVar("M", bound=Message)


class DecodeError(ValueError):
    """The bytes are not this message. The text names the first field at fault."""


def encode(message: Message) -> bytes:
    """UTF-8 JSON without spaces, fields in the schema's order; of a message that is extended in the process alone, the
    bytes of the one that it extends."""
    return message.WIRE.__pydantic_serializer__.to_json(message)


def decode(kind: type[M], content: bytes) -> M:
    """One message of the given kind. Raises DecodeError."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise DecodeError(describe(error)) from None


def describe(error: ValidationError) -> str:
    """The first fault in one short line, without the offending input: logs must not hold licensed text."""
    fault = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in fault["loc"]) or "record"
    return f"{place[:200]}: {fault['msg'][:300]}"  # a key or a tag of the input may be in both
