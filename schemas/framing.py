"""Frames that a schema registry's serialisers put around JSON.

A frame is a zero byte and the schema's id in four bytes, before the message. Messages are checked by the released
schemas of this package, not by the id, so no registry is asked. Serialisers that put the id into a header frame
nothing.
"""

_BYTES = 5


def unframed(value: bytes) -> bytes:
    """Return the message in a frame, or bytes without a frame as they are.

    JSON never begins with a zero byte.
    """
    return value[_BYTES:] if value.startswith(b"\0") and len(value) >= _BYTES else value
