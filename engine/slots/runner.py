"""Common interface of all ways to run the model."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from earlybird.engine.types import Request, Verdict


class Runner(Protocol):
    """Interface that runs each request through the model until its policy lets it exit.

    Not thread-safe: one thread owns it.
    """

    behind: int | None
    """Texts that wait for a slot elsewhere, told by the owner before a step, for policies that follow the load. None,
    the start: no queue is followed, and a text without a recorded rung takes the first."""

    @property
    def waiting(self) -> int:
        """Number of submitted requests without a slot."""

    @property
    def active(self) -> int:
        """Number of requests in a slot."""

    def submit(self, requests: Sequence[Request]) -> None:
        """Queue requests, first in first out.

        Raises SequenceTooLong, and then queues none of them.
        """

    def expire(self, tickets: Iterable[int]) -> None:
        """Make these requests exit after their next layer.

        The reason is DEADLINE unless the policy lets them exit there: their depth limit is lowered to the passes they
        have made, plus one. Tickets that are not in flight are ignored.
        """

    def step(self) -> list[Verdict]:
        """Admit what fits, apply one layer to every slot, return the verdicts of exits.

        Empty when nothing exits or there is nothing to do; blocks on nothing but arithmetic.
        """
