"""What a worker remembers of its own transactions, for after a broker's crash."""

from collections.abc import Mapping

from confluent_kafka import Message, TopicPartition

from earlybird.stream.ports import Partition

REMEMBERED = 1_000  # transactions; what a crash leaves undecided is of the last few


class OwnTransactions:
    """The marks of transactions, and the last commit. Not thread-safe: publisher thread only."""

    def __init__(self) -> None:
        self.offsets: list[TopicPartition] = []  # of the last commit
        self.records: Mapping[Partition, list[int]] = {}  # their offsets, by partition, in the last commit
        self._marks: dict[bytes, bool] = {}
        self._mark = b""
        self._open: dict[Partition, list[int]] = {}

    @property
    def marks(self) -> Mapping[bytes, bool]:
        """Whether the transaction with this mark was committed."""
        return self._marks

    def begin(self, mark: bytes) -> None:
        """Begin one whose records bear this mark; none if it is empty."""
        self._mark, self._open = mark, {}
        if mark:
            self._marks[mark] = False
            if len(self._marks) > REMEMBERED:
                del self._marks[next(iter(self._marks))]

    def note(self, message: Message) -> None:
        """The broker has this record."""
        topic, number, offset = message.topic(), message.partition(), message.offset()
        if topic is not None and number is not None and offset is not None:
            self._open.setdefault(Partition(topic, number), []).append(offset)

    def commit(self, offsets: list[TopicPartition]) -> None:
        """The open one was committed, with these offsets."""
        if self._mark in self._marks:
            self._marks[self._mark] = True
        self.records = self._open
        self.offsets = offsets or self.offsets
