"""A pause and a rebalance at once: what was paused when it went is read when it comes back."""

from typing import Any

import pytest

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_partition_that_went_while_paused_is_read_when_it_returns(real_broker: Any, protocol: str) -> None:
    """Its next owner leaves again; the first has forgotten the pause, and so has its client."""
    topic, group = real_broker.topic(partitions=2), real_broker.unique("group")
    first = real_broker.join(topic, group, protocol=protocol)
    first.poll_until(lambda: len(first.owned) == 2)
    first.source.pause(list(first.owned))
    second = real_broker.join(topic, group, protocol=protocol)
    second.poll_until(lambda: first.poll() or (len(first.owned) == 1 and second.owned))
    (kept,) = first.owned
    second.source.close()
    first.poll_until(lambda: len(first.owned) == 2)
    first.source.resume([kept])
    for key in (b"a", b"b", b"c", b"d"):  # both partitions get some
        real_broker.publish(topic, [b"1", b"2"], key=key)
    first.poll_until(lambda: len(first.records) == 8)
    assert {record.partition for record in first.records} == {0, 1}
