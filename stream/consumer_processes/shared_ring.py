"""Messages from one process to another through shared memory: places of one size, used in turn; no pickle, no lock.

How many messages were put is told by an eventfd, which the kernel adds up. It wakes a reader that sleeps in poll, no
wake-up can be missed, and it orders the memory on every processor: who has read the count sees what was written before
it was raised.
"""

import os
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Form(Protocol[T]):
    """How one message lies in its place. `turn` says the how manieth it is, from 0."""

    @property
    def size(self) -> int:
        """Bytes of a place, a multiple of 8."""

    def pack(self, memory: memoryview, start: int, turn: int, message: T) -> None:
        """Write it at `start`."""

    def unpack(self, memory: memoryview, start: int) -> tuple[int, T]:
        """The turn and the message at `start`."""


class Ring(Generic[T]):
    """One end of a ring; one process only puts and the other only takes, each from one thread.

    Nothing here says that the ring is full: whoever puts knows how many places are free, see Line.
    """

    def __init__(self, memory: memoryview, form: Form[T], count: int) -> None:
        """`memory`: shared, a whole number of places. `count`: an eventfd that does not block."""
        self.count = count
        self._memory, self._form, self._size = memory, form, form.size
        self.places = len(memory) // form.size
        self._turn = 0

    def put(self, messages: Sequence[T]) -> None:
        """Write these and tell the reader. At most as many may be unread as there are places."""
        for message in messages:
            self._form.pack(self._memory, self._turn % self.places * self._size, self._turn, message)
            self._turn += 1
        if messages:
            os.eventfd_write(self.count, len(messages))

    def take(self) -> list[T]:
        """All that was put and not taken yet, in order; empty when there is none."""
        try:
            unread = os.eventfd_read(self.count)
        except BlockingIOError:
            return []
        return [self._next() for _ in range(unread)]

    def _next(self) -> T:
        turn, message = self._form.unpack(self._memory, self._turn % self.places * self._size)
        assert turn == self._turn, f"message {self._turn} was overwritten by message {turn} unread. This is a bug."
        self._turn += 1
        return message
