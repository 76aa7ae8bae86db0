"""A member that closes during a rebalance leaves its group, so that no other waits for its session to end."""

import socket
import struct
import threading
import time
from typing import Any

import pytest

from earlybird.stream.adapters.topics import admin_client

pytestmark = pytest.mark.broker

JOIN, SYNC = 11, 14  # keys of Kafka's requests
WAITING_S = 0.5  # for a member to have asked for its share, and for its close to have begun


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


def sized(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


class Leader:
    """The leader of a group, over a plain socket: the test decides when it assigns the partitions."""

    def __init__(self, bootstrap_servers: str, group: str, topic: str) -> None:
        host, _, port = bootstrap_servers.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._group, self._member, self._generation = text(group), "", 0
        subscription = struct.pack(">hi", 1, 1) + text(topic) + struct.pack(">ii", -1, 0)
        self._protocols = struct.pack(">i", 1) + text("cooperative-sticky") + sized(subscription)

    def join(self) -> int:
        """Become or stay the leader; how many members there are."""
        body = self._group + struct.pack(">ii", 30_000, 30_000) + text(self._member) + text("consumer")
        answer = self._ask(JOIN, body + self._protocols)
        _, fault, self._generation = struct.unpack_from(">ihi", answer)
        assert fault == 0, fault
        at = 10
        for _ in range(3):  # protocol, leader, member
            (size,) = struct.unpack_from(">h", answer, at)
            self._member, at = answer[at + 2 : at + 2 + size].decode(), at + 2 + size
        return int(struct.unpack_from(">i", answer, at)[0])

    def share_out(self) -> None:
        """Send an assignment without partitions, which ends the rebalance."""
        self._ask(SYNC, self._group + struct.pack(">i", self._generation) + text(self._member) + struct.pack(">i", 0))

    def close(self) -> None:
        self._socket.close()

    def _ask(self, key: int, body: bytes) -> bytes:
        self._socket.sendall(sized(struct.pack(">hhi", key, 2, 1) + text("leader") + body))
        (size,) = struct.unpack(">i", self._socket.recv(4, socket.MSG_WAITALL))
        return self._socket.recv(size, socket.MSG_WAITALL)[4:]


def test_a_member_leaves_that_waits_for_its_share(real_broker: Any) -> None:
    """librdkafka closes such a member without a word to the group, which then waits for its session to end."""
    topic, group = real_broker.topic(), real_broker.unique("group")
    first = real_broker.join(topic, real_broker.unique("group"))
    first.poll_until(lambda: first.owned)  # the topic of all groups' offsets is there from here on
    leader = Leader(real_broker.bootstrap_servers, group, topic)
    leader.join()
    leader.share_out()
    member = real_broker.join(topic, group)
    while leader.join() == 1:  # until the member has come; each time the others are asked to join again
        leader.share_out()
        time.sleep(0.1)
    time.sleep(WAITING_S)
    closing = threading.Thread(target=member.source.close)
    closing.start()
    time.sleep(WAITING_S)
    leader.share_out()
    closing.join()
    admin = admin_client(real_broker.bootstrap_servers)
    described = admin.describe_consumer_groups([group])[group].result(30)
    assert [each.client_id for each in described.members] == ["leader"]
    leader.close()
