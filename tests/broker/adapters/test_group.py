"""Who is a member of the group, as far as the client knows: what no callback tells."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from earlybird.stream.adapters.embedded import CLIENT_OPTIONS, EmbeddedBroker
from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.ports import Partition

PROTOCOLS = ("classic", "consumer")


@pytest.fixture
def topic(broker: Any, unique: Callable[[str], str]) -> Iterator[str]:
    """One partition: of two members one has nothing to read."""
    name = unique("one")
    if broker.real:
        create_topics(broker.bootstrap_servers, [Topic(name)])
        yield name
        return
    with EmbeddedBroker({name: 1}) as own:
        broker.bootstrap_servers, broker.options = own.bootstrap_servers, CLIENT_OPTIONS
        yield name
        while broker.members:
            broker.members.pop().source.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_spare_is_a_member(broker: Any, topic: str, protocol: str) -> None:
    """Its share is nothing, and it takes over when there is something."""
    group = broker.unique("group")
    owner = broker.join(topic, group, protocol=protocol)
    assert not owner.source.member
    owner.poll_until(lambda: owner.owned)
    assert owner.source.member
    spare = broker.join(topic, group, protocol=protocol)
    assert not spare.source.member
    spare.poll_until(lambda: owner.poll() or spare.source.member)
    for _ in range(20):  # beyond the next looks
        owner.poll()
        spare.poll()
        assert owner.source.member and spare.source.member
    assert owner.owned and not spare.owned
    owner.source.close()
    spare.poll_until(lambda: spare.owned)
    assert spare.source.member


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_is_thrown_out_is_no_member_until_it_is_back(broker: Any, topic: str, protocol: str) -> None:
    """Another has its partition by then, so it comes back as a spare: no callback has a partition for it."""
    if not broker.real and protocol == "consumer":
        pytest.skip("the embedded broker throws nobody out for half a minute")
    group, shortest = broker.unique("group"), 6000 if broker.real else 2000
    limits = {"max.poll.interval.ms": shortest, **({"session.timeout.ms": shortest} if protocol == "classic" else {})}
    sleeper = broker.join(topic, group, protocol=protocol, **limits)
    sleeper.poll_until(lambda: sleeper.owned)
    successor = broker.join(topic, group, protocol=protocol)
    successor.poll_until(lambda: successor.owned)
    thrown_out: list[bool] = []
    sleeper.at_loss = lambda: thrown_out.append(sleeper.source.member)
    sleeper.poll_until(lambda: successor.poll() or thrown_out)
    assert thrown_out == [False]
    sleeper.poll_until(lambda: successor.poll() or sleeper.source.member)
    assert not sleeper.owned and list(successor.owned) == [Partition(topic, 0)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_finds_no_broker_is_no_member(protocol: Any) -> None:
    """Though the client may have a member id of its own making."""
    source = KafkaSource("127.0.0.1:1", ["t"], "g", protocol=protocol)
    source.subscribe(None)  # type: ignore[arg-type]  # nothing will be assigned
    for _ in range(40):
        source.poll(20, 1)
        assert not source.member
    source.close()
