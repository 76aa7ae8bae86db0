"""The small interface behind which every way of running the model stands."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from earlybird.engine.types import Request, Verdict


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

    def expire(self, tickets: Iterable[int]) -> None:
        """These leave after the next layer that they make, with reason DEADLINE if nothing else lets them out there:
        their depth limit is lowered to the passes they have made, plus one. Tickets that are not under way are left
        out."""

    def step(self) -> list[Verdict]:
        """Admit what fits, apply one layer to every slot, release what exits. Empty when nothing exits, or when
        there is nothing to do; never blocks on anything but arithmetic."""
