"""Changes to Faust and aiokafka, which tell of no heartbeat and drop events."""

from collections.abc import Callable
from typing import Any

from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.transport.consumer import Consumer
from mode.utils.queues import FlowControlEvent


def watch_heartbeats(now_s: Callable[[], float], answered: Callable[[float], None]) -> None:
    """Call `answered` with the time of sending when the group has answered a heartbeat."""
    heartbeat = GroupCoordinator._do_heartbeat

    async def watched(coordinator: Any) -> bool:
        sent_s = now_s()
        done = bool(await heartbeat(coordinator))
        if done:
            answered(sent_s)
        return done

    GroupCoordinator._do_heartbeat = watched


def lose_nothing() -> None:
    """Have Faust hand out every event of the topics it reads."""
    keep_queues()
    drop_nothing()
    seek_all()


def keep_queues() -> None:
    """Have Faust empty no queue that is in use.

    It resumes its queues before tables are restored and once more after it has sought the committed offsets, and each
    time empties them: of events that were handed out in between, it lost all.
    """
    kind: Any = FlowControlEvent
    resume = kind.resume

    def resumed(control: Any) -> None:
        """Resume queues that are suspended."""
        if not control.is_active():
            resume(control)

    kind.resume = resumed


def drop_nothing() -> None:
    """Have Faust hand out every event that is read, also again after a seek.

    It drops events below the last one handed out, and notes that one only after we may have sought back; of a gap it
    notes that it is processed, and commits over it.
    """
    kind: Any = Consumer
    made = kind.__init__

    def init(consumer: Any, *args: Any, **named: Any) -> None:
        """Make a consumer that looks up no last event."""
        made(consumer, *args, **named)
        consumer._read_offset = _Last()

    kind.__init__ = init


def seek_all() -> None:
    """Have Faust seek partitions without a committed offset to their beginning, too.

    It drops what was read while its flow was not active and seeks back to committed offsets alone. Of a partition that
    had none, the dropped events came again only once a later one showed the gap.
    """
    kind: Any = Consumer
    seek_committed = kind.perform_seek

    async def sought(consumer: Any) -> None:
        """Seek committed offsets, then the beginning where there is none."""
        await seek_committed(consumer)
        changelogs = consumer.app.tables.changelog_topics
        for place in consumer.assignment():
            if place.topic not in changelogs and not consumer._committed_offset.get(place):
                await consumer.seek(place, 0)

    kind.perform_seek = sought


class _Last(dict[Any, Any]):
    """Offset of the last event handed out, by partition.

    We read it by `get`; Faust looks it up by [] and finds none.
    """

    def __getitem__(self, place: Any) -> None:
        """Return None: no offset counts as handed out before."""


def pass_gap(consumer: Any, place: Any, first: int, behind: int) -> None:
    """Let Faust commit over offsets that a topic lacks, `first` included, `behind` not."""
    consumer._gap[place].addi(first, behind)


async def committed(consumer: Any, place: Any) -> int | None:
    """Ask the group for a partition's offset.

    Faust may hand out events before it knows it.
    """
    thread = consumer._thread
    found: int | None = await thread.call_thread(thread._ensure_consumer().committed, place)
    return found
