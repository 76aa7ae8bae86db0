"""Interfaces to values in a schema registry's frame, which adapters implement."""

from typing import Protocol

from earlybird.stream.ports import Record


class UnreadableFrame(ValueError):
    """A value without a known schema, or that its schema does not describe."""


class FrameReader(Protocol):
    """Reader of values in a schema registry's frame."""

    @property
    def awaited(self) -> str:
        """What is waited for; empty: nothing. May be read on any thread."""

    def ready(self, record: Record) -> bool:
        """Return whether the record can be read now, or waits for the registry's answer.

        Asks at most once per second, and returns within about a second.
        """

    def to_json(self, record: Record) -> bytes:
        """Return the value as JSON; one without a frame is returned as it is.

        Raises UnreadableFrame, and RegistryAway where it was not `ready`.
        """

    def close(self) -> None:
        """Close the connection to the registry."""


class FrameWriter(Protocol):
    """Writer of one topic's values in a schema registry's frame."""

    @property
    def topic(self) -> str:
        """Topic that the record was read from."""

    @property
    def awaited(self) -> str:
        """What is waited for; empty: nothing. May be read on any thread."""

    def ready(self) -> bool:
        """Return whether values can be framed: the registry answered, and has the schema."""

    def framed(self, value: bytes) -> bytes:
        """Return JSON in its frame; only once `ready` was True."""

    def close(self) -> None:
        """Close the connection to the registry."""
