"""The small interface behind which every way of running the model stands."""

from collections.abc import Sequence
from typing import Protocol

from engine.types import Request, Verdict


class Runner(Protocol):
    """Runs requests through the model, each until its policy lets it out. Not thread-safe: one thread owns it."""

    @property
    def waiting(self) -> int:
        """Requests submitted that have no slot yet."""

    @property
    def active(self) -> int:
        """Requests in a slot."""

    def submit(self, requests: Sequence[Request]) -> None:
        """Queue requests, first in first out. Raises SequenceTooLong, and then takes none of them."""

    def step(self) -> list[Verdict]:
        """Admit what fits, apply one layer to every slot, release what exits. Empty when nothing exits, or when
        there is nothing to do; never blocks on anything but arithmetic."""
