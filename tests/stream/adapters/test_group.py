"""Membership, as read from what the client says of itself; tests/broker has it on brokers."""

import struct
from typing import Any, cast

import pytest

from earlybird.stream.adapters.group import CHECK_INTERVAL_S, Membership


class Client:
    """A Consumer that is what a test says."""

    def __init__(self) -> None:
        self.tag, self.generation, self.name = b"CGMDv2:", -1, cast(str | None, None)

    def consumer_group_metadata(self) -> bytes:
        return self.tag + struct.pack("=i", self.generation) + b"group\0"

    def memberid(self) -> str | None:
        return self.name


class Member:
    """A membership that is looked at when a test says so."""

    def __init__(self, protocol: Any) -> None:
        self.client, self._now = Client(), 0.0
        self.ship = Membership(cast(Any, self.client), protocol, lambda: self._now)

    def refresh(self) -> bool:
        self._now += 2 * CHECK_INTERVAL_S
        self.ship.refresh()
        return self.ship.is_member


def test_classic_waits_for_the_assignment_that_ends_the_rebalance() -> None:
    """A member id, and a generation that an earlier membership left behind, are not enough."""
    member = Member("classic")
    member.client.name, member.client.generation = "a", 2
    assert not member.refresh()
    member.ship.assigned()
    assert member.refresh()
    member.client.name = None  # a spare that is thrown out: there is nothing to lose, so nothing is called
    assert not member.refresh()
    member.client.name = "b"
    assert not member.refresh()
    member.ship.assigned()
    assert member.refresh()


def test_consumer_counts_from_its_epoch() -> None:
    """The name is there from the start, and nobody calls a spare."""
    member = Member("consumer")
    member.client.name = "a"
    for epoch, is_member in ((-1, False), (3, True), (0, False), (5, True)):
        member.client.generation = epoch
        assert member.refresh() is is_member
    member.ship.lost()
    assert not member.ship.is_member


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_client_that_writes_it_otherwise_leaves_it_to_the_callbacks(protocol: str) -> None:
    """A worker that has partitions stays ready."""
    member = Member(protocol)
    member.client.tag = b"CGMDv3:"
    assert not member.refresh()
    member.ship.assigned()
    assert member.refresh()
    member.ship.lost()
    assert not member.refresh()
