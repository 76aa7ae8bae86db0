"""Static members: one of two services with the same `group.instance.id` ends; consumer processes get one each."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.faults, pytest.mark.broker]

INSTANCE = "KAFKA__OPTIONS__GROUP_INSTANCE_ID"
PATIENCE_S = 150.0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_of_two_services_with_one_instance_id_one_ends(
    ground: Any, start_stage: Callable[..., Any], make_item: Callable[[int], Any], protocol: str
) -> None:
    """With status 2 and the reason; the other goes on and every text has its outcome."""
    settings = ground.environment(**{INSTANCE: "one", "KAFKA__GROUP_PROTOCOL": protocol})
    stages = [start_stage(ground.bootstrap_servers, **settings)]
    stages[0].wait_for("partitions.assigned")
    stages.append(start_stage(ground.bootstrap_servers, **settings))
    ended, left = (0, 1) if protocol == "classic" else (1, 0)
    assert stages[ended].process.wait(PATIENCE_S) == 2
    assert "earlybird: Kafka has ended this member of the group for good" in stages[ended].log.read_text()
    ground.publish([make_item(number) for number in range(20)])
    with ground.watch() as watch:
        assert watch.until_answered(20).repeated == 0
    assert stages[left].end() == 0


def test_consumer_processes_share_an_instance_id_by_number(ground: Any, start_stage: Callable[..., Any]) -> None:
    """Each has partitions, and none fences another."""
    service = start_stage(
        ground.bootstrap_servers, **ground.environment(**{INSTANCE: "one", "ENGINE__CONSUMER_PROCESSES": "2"})
    )
    with ground.watch() as watch:
        watch.until(lambda: {3} <= {len(event["partitions"]) for event in service.events("partitions.assigned")})
    assert service.end() == 0
