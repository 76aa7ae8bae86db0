"""Ring buffer in shared memory for messages between two processes.

Places have one size and are used in turn; there is no pickle and no lock. An eventfd counts the messages put; the
kernel adds the counts up. It wakes a reader that sleeps in poll, no wake-up can be missed, and it orders memory on
every processor: a process that has read the count sees what was written before the count was raised.
"""

import os
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Form(Protocol[T]):
    """Layout of one message in its place.

    `turn` is the message's sequence number, from 0.
    """

    @property
    def size(self) -> int:
        """Bytes per place, a multiple of 8."""

    def pack(self, memory: memoryview, start: int, turn: int, message: T) -> None:
        """Write the message and its turn at `start`."""

    def unpack(self, memory: memoryview, start: int) -> tuple[int, T]:
        """Return the turn and the message at `start`."""


class Ring(Generic[T]):
    """One end of a ring buffer with a single writer and a single reader.

    One process only puts and the other only takes, each from one thread. The ring does not check that it is full:
    the writer knows how many places are free, see Line.
    """

    def __init__(self, memory: memoryview, form: Form[T], count: int) -> None:
        """Use `memory`, a whole number of places, and `count`, a non-blocking eventfd."""
        self.count = count
        self._memory, self._form, self._size = memory, form, form.size
        self.places = len(memory) // form.size
        self._turn = 0

    def put(self, messages: Sequence[T]) -> None:
        """Write these messages and wake the reader.

        At most `places` messages may be unread.
        """
        for message in messages:
            self._form.pack(self._memory, self._turn % self.places * self._size, self._turn, message)
            self._turn += 1
        if messages:
            os.eventfd_write(self.count, len(messages))

    def take(self) -> list[T]:
        """Return all messages not yet taken, in order; empty without any."""
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
