"""The contract of a live source: a vendor's frames, and the end of a connection."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol


class Disconnected(Exception):
    """The end of a connection, or a failed try to make one.

    Trying again can help. `retry_after_s`: the least time to wait, where the vendor has said so. The reason holds no
    secrets.
    """

    def __init__(self, why: str, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


Origin = Literal["live", "gap", "backlog"]
"""Live; gap: fetched from the vendor's history after a time without a connection; backlog: there before the start."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes of the vendor, for its parser in stream.feeds.

    `follows`: it should hold something of the frame before, so that nothing was missed between them.
    """

    content: bytes
    received_us: int
    origin: Origin = "live"
    follows: bool = False


class Source(Protocol):
    """One vendor's live source."""

    @property
    def name(self) -> str:
        """Name of its parser."""

    @property
    def address(self) -> str:
        """Host or hosts, for the log."""

    @property
    def answering(self) -> bool:
        """Whether it has answered; false for feeds that could not be read yet."""

    def frames(self, since_us: int | None) -> Iterator[Frame | None]:
        """Connect and yield frames; None once connected, and while there is nothing to read.

        `since_us`: from when on the vendor's history is to be read, where it has one; None: not at all. Does not end,
        but raises Disconnected, or PullError for a refusal.
        """
