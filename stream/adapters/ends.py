"""Ends of partitions, asked of the broker."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

from earlybird.stream.ports import Partition

REQUEST_TIMEOUT_S = 2.0  # a broker answers within milliseconds

Answers = dict[Partition, "Future[ListOffsetsResultInfo]"]


def ask_ends(admin: AdminClient, partitions: Iterable[Partition], level: IsolationLevel) -> Answers:
    """Ask for the ends as readers of this isolation level see them, without waiting."""
    wanted = {TopicPartition(*partition): OffsetSpec.latest() for partition in partitions}  # type: ignore[no-untyped-call]
    if not wanted:
        return {}
    answers = admin.list_offsets(wanted, isolation_level=level, request_timeout=REQUEST_TIMEOUT_S)
    return {Partition(tp.topic, tp.partition): answer for tp, answer in answers.items()}


class BrokerEnds:
    """The broker's ends as of a moment ago; not thread-safe, consumer thread only.

    A consumer's own knowledge is as old as its last fetch, and what is paused is not fetched.
    """

    def __init__(self, admin: Callable[[], AdminClient | None]) -> None:
        self._admin = admin
        self._asked: Answers = {}
        self._known: dict[Partition, int] = {}

    def latest(self, partitions: Iterable[Partition]) -> Mapping[Partition, int]:
        """Return what was last answered, and ask anew; a partition without an answer is left out."""
        admin = self._admin()
        if admin is not None and all(answer.done() for answer in self._asked.values()):
            self._known |= {p: answer.result().offset for p, answer in self._asked.items() if not answer.exception()}
            self._asked = ask_ends(admin, partitions, IsolationLevel.READ_UNCOMMITTED)
        return self._known

    def forget(self, partition: Partition) -> None:
        """Forget a partition that is no longer ours, or that begins anew."""
        self._asked.pop(partition, None)
        self._known.pop(partition, None)
