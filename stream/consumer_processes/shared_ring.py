"""Ring buffer in shared memory for messages between two processes.

Slots have one size and are used in turn; there is no pickle and no lock. An eventfd counts the messages put; the
kernel adds the counts up. It wakes a reader that sleeps in poll, no wake-up can be missed, and it orders memory on
every processor: a process that has read the count sees what was written before the count was raised.
"""

import os
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class MessageCodec(Protocol[T]):
    """Layout of one message in its slot.

    `sequence` is the message's sequence number, from 0.
    """

    @property
    def size(self) -> int:
        """Bytes per slot, a multiple of 8."""

    def pack(self, memory: memoryview, start: int, sequence: int, message: T) -> None:
        """Write the message and its sequence number at `start`."""

    def unpack(self, memory: memoryview, start: int) -> tuple[int, T]:
        """Return the sequence number and the message at `start`."""


class Ring(Generic[T]):
    """One end of a ring buffer with a single writer and a single reader.

    One process only puts and the other only takes, each from one thread. The ring does not check that it is full:
    the writer knows how many slots are free, see Channel.
    """

    def __init__(self, memory: memoryview, codec: MessageCodec[T], count: int) -> None:
        """Use `memory`, a whole number of slots, and `count`, a non-blocking eventfd."""
        self.count = count
        self._memory, self._codec, self._size = memory, codec, codec.size
        self.capacity = len(memory) // codec.size
        self._sequence = 0

    def put(self, messages: Sequence[T]) -> None:
        """Write these messages and wake the reader.

        At most `capacity` messages may be unread.
        """
        for message in messages:
            self._codec.pack(self._memory, self._sequence % self.capacity * self._size, self._sequence, message)
            self._sequence += 1
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
        sequence, message = self._codec.unpack(self._memory, self._sequence % self.capacity * self._size)
        assert sequence == self._sequence, (
            f"message {self._sequence} was overwritten by message {sequence} unread. This is a bug."
        )
        self._sequence += 1
        return message
