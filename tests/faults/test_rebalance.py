"""Workers that join and leave under load: every record has an outcome, the same from each worker."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.broker]

JoinGroup = Callable[..., Any]


def kafka(ground: Any, protocol: str) -> dict[str, Any]:
    """The connection settings of a worker with this protocol."""
    return dict(ground.tree()["kafka"], group_protocol=protocol)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_workers_join_and_leave_under_load(
    ground: Any, join: JoinGroup, feed: Callable[..., Any], protocol: str
) -> None:
    """One, two, three, two and one worker again, while news go on: nothing lost, no disagreement, all take part."""
    connection = kafka(ground, protocol)
    with ground.watch() as watch, feed(ground) as source:
        workers = [join(ground, kafka=connection)]
        watch.until(lambda: workers[0].finished)
        for count in (2, 3):
            workers.append(join(ground, kafka=connection))
            watch.until(lambda count=count: workers[count - 1].partitions and workers[count - 1].finished)
        for leaving in (workers[0], workers[2]):
            before = sum(worker.finished for worker in workers)
            leaving.leave()
            # All partitions are the others', and they have gone on.
            others = [worker for worker in workers if worker.partitions]
            watch.until(lambda others=others: sum(worker.partitions for worker in others) == 6)
            watch.until(lambda before=before: sum(worker.finished for worker in workers) > before + 50)
        found = watch.until_answered(source.stop())
        # A signal is seen before its own worker hears that the broker has it.
        watch.until(lambda: sum(worker.finished for worker in workers) >= len(found.raw))
    assert found.balanced and not found.strays


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_partitions_move_under_a_backlog_of_copies(
    ground: Any, join: JoinGroup, make_item: Callable[..., Any], protocol: str
) -> None:
    """Every text ten times, spread over the partitions: followers lose their leaders to another worker, and each still
    gets its outcome, the same for all copies of a text."""
    texts, copies = 60, 10
    connection = kafka(ground, protocol)
    items = [make_item(n, f"Acme sells {n % texts} plants") for n in range(texts * copies)]
    with ground.watch() as watch:
        first = join(ground, kafka=connection, timing={"revoke_timeout_ms": 1})
        watch.until(lambda: first.partitions == 6)
        ground.publish(items)
        second = join(ground, kafka=connection)
        watch.until(lambda: second.partitions)
        ground.publish([item | {"item_key": f"copy:{n}", "source": "copy"} for n, item in enumerate(items)])
        first.leave()
        found = watch.until_answered(2 * len(items))
    assert found.balanced and not found.strays
