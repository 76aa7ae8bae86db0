"""A member that Kafka has ended for good ends, and says why."""

from typing import Any

import pytest

from earlybird.stream.errors import SourceError

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_of_two_members_with_one_instance_id_one_ends(real_broker: Any, protocol: str) -> None:
    """It would read nothing for ever. Under `classic` the newer takes the place of the older, under `consumer` it is
    the newer that is refused."""
    topic, group = real_broker.topic(), real_broker.unique("group")
    first = real_broker.join(topic, group, protocol=protocol, **{"group.instance.id": "one"})
    first.poll_until(lambda: first.owned)
    second = real_broker.join(topic, group, protocol=protocol, **{"group.instance.id": "one"})

    def both() -> bool:
        first.poll()
        return False

    with pytest.raises(SourceError, match=r"for good: .*(fenced|instance)"):
        second.poll_until(both)
