"""The faults, by name. Each is made and ended by its function, while the session goes on."""

import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions
from redis import Redis

from earlybird.stream.adapters.topics import Topic, admin_client, create_topics
from kafka_node import answers
from tests.chaos.engine import DEADLY, RAISING
from tests.chaos.feed import Feed, item
from tests.chaos.ledger import now_us
from tests.chaos.session import Session
from tests.chaos.setting import SESSION_MS, STALL_S

PAUSE_S = SESSION_MS / 1e3 + 1.0  # beyond the session, so that the partitions are another's by then
MINUTE_S = 60.0


def worker_killed(session: Session) -> None:
    session.one().tell(signal.SIGKILL)


def all_workers_killed(session: Session) -> None:
    for worker in session.crew.workers:
        worker.tell(signal.SIGKILL)


def worker_killed_while_joining(session: Session) -> None:
    """A second death before the group has got over the first."""
    for pause_s in (session.rng.uniform(0.3, 2.0), 0):
        session.rng.choice(session.crew.workers).tell(signal.SIGKILL)
        session.run(pause_s)


def worker_terminated(session: Session) -> None:
    worker = session.one()
    worker.tell(signal.SIGTERM)
    session.crew.workers.remove(worker)
    status = worker.wait()
    assert status == 0, f"SIGTERM ended a worker with {status}"
    session.crew.add()


def worker_paused(session: Session) -> None:
    """It does not know that its partitions have gone: what it had under way comes late, or not at all."""
    worker = session.one()
    worker.tell(signal.SIGSTOP)
    session.run(PAUSE_S)
    worker.tell(signal.SIGCONT)


def worker_joined_and_left(session: Session) -> None:
    worker = session.crew.add()
    session.until(lambda: any(event["partitions"] for event in worker.events("partitions.assigned")))
    session.run(session.rng.uniform(0.1, 1.0))
    status = session.crew.remove(worker)
    assert status == 0, f"SIGTERM ended a worker with {status}"


def poll_interval_exceeded(session: Session) -> None:
    """The group throws it out, and nothing but its own poll can tell it."""
    session.one().tell(signal.SIGRTMIN)
    session.run(STALL_S)


def engine_raised(session: Session) -> None:
    """A step fails for once, and a text that fails each step is among the good ones."""
    session.one().tell(signal.SIGUSR2)
    session.feed.slip_in(RAISING)
    session.run(0.5)


def engine_hung(session: Session) -> None:
    """The watchdog ends the process."""
    worker = session.one()
    worker.tell(signal.SIGUSR1)
    worker.told = True
    session.until(lambda: worker.status is not None)


def deadly_record(session: Session) -> None:
    """Kills whoever reads it, until it is refused."""
    letters = session.ledger.audit.rejections["poison"]
    session.feed.slip_in(DEADLY)
    session.until(lambda: session.ledger.audit.rejections["poison"] > letters)
    session.crew.killed += session.crew.deaths.pop("-9", 0)


def consumer_process_killed(session: Session) -> None:
    started = session.one().events("consumer_process.started")
    pid = int(session.rng.choice(started)["worker"].rpartition("-")[2])
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        session.crew.killed += 1
    session.run(1.0)
    session.crew.deaths.pop("2", None)


def start(session: Session, node: Any) -> None:
    """Start a broker again; meanwhile dead workers are started, too."""
    node.launch()
    session.until(lambda: answers(node.bootstrap_servers))


def broker_restarted(session: Session) -> None:
    node = session.rng.choice(session.nodes)
    node.stop()
    start(session, node)


def broker_killed(session: Session) -> None:
    node = session.rng.choice(session.nodes)
    node.kill()
    session.run(0.5)
    start(session, node)


def broker_away(session: Session) -> None:
    node = session.rng.choice(session.nodes)
    node.kill()
    session.run(MINUTE_S)
    start(session, node)


def broker_paused(session: Session) -> None:
    node = session.rng.choice(session.nodes)
    node.pause()
    session.run(PAUSE_S)
    node.resume()


def leader_killed(session: Session) -> None:
    """Of a partition of the signals or of the raw topic, for as long as a session, then it comes back."""
    topic = session.rng.choice([session.topics.raw, session.topics.signals])
    found = admin_client(session.topics.bootstrap_servers).list_topics(topic, timeout=30).topics[topic]
    leader = found.partitions[session.rng.randrange(len(found.partitions))].leader
    (node,) = [node for node in session.nodes if node.node == leader]
    node.kill()
    session.run(session.rng.uniform(1.0, 6.0))
    start(session, node)


def others_transactions(session: Session) -> None:
    """Another producer's transactions on the raw topic: one is taken back, one stands open for a while."""
    producer = Producer({"bootstrap.servers": session.topics.bootstrap_servers, "transactional.id": f"o{now_us()}"})
    producer.init_transactions(30)
    for outcome in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        for number in range(20):
            producer.produce(session.topics.raw, json.dumps(item(now_us() % 10**9 + number)), f"other:{number}")
        producer.flush(30)
        session.run(session.rng.uniform(0.5, 2.0))
        outcome(30)


def partitions_added(session: Session) -> None:
    topic = session.topics.raw
    admin = admin_client(session.topics.bootstrap_servers)
    count = len(admin.list_topics(topic, timeout=30).topics[topic].partitions) + 2
    admin.create_partitions([NewPartitions(topic, count)])[topic].result(30)
    session.run(1.0)
    session.reopen()
    session.until(lambda: any(position.partition == count - 1 for position in session.ledger.audit.raw))


def topic_recreated(session: Session) -> None:
    """Everything in the old one has its outcome; then one of the same name begins at offset 0, longer than the old."""
    session.feed.close()
    acknowledged = session.feed.acknowledged - session.elements
    session.until(lambda: len(session.ledger.audit.raw) >= acknowledged and not session.ledger.waiting)
    admin, topic = admin_client(session.topics.bootstrap_servers), session.topics.raw
    admin.delete_topics([topic])[topic].result(30)
    since_us = now_us()
    while create_topics(session.topics.bootstrap_servers, [Topic(topic, 6)])[0].outcome != "created":
        session.crew.mend()
    session.close_chapter(since_us)
    before = session.elements
    session.feed = Feed(session.topics.bootstrap_servers, topic, session.setting.rate)
    session.feed.acknowledged = before
    session.run(1.0)


def redis_killed(session: Session) -> None:
    session.redis.kill()
    session.run(1.0)
    session.redis.restart()


def redis_slow(session: Session) -> None:
    session.redis.pause()
    session.run(1.5)
    session.redis.resume()


def redis_full(session: Session) -> None:
    with Redis.from_url(session.redis.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        session.run(1.0)
        client.config_set("maxmemory", 0)


def redis_garbage(session: Session) -> None:
    """Values are replaced by something else, again and again."""
    values = (b"[" * 5_000, b'{"label": Infinity}', b'{"n": -5}', b"\xff\x00", b"{}", b"null")
    with Redis.from_url(session.redis.url) as client:
        for _ in range(10):
            _, keys = client.scan(count=1000)
            with client.pipeline(transaction=False) as batch:
                for key in keys:
                    batch.set(key, session.rng.choice(values), keepttl=True)
                batch.execute()
            session.run(0.1)


FAULTS: dict[str, Callable[[Session], None]] = {
    "worker killed": worker_killed,
    "worker killed, again while joining": worker_killed_while_joining,
    "all workers killed": all_workers_killed,
    "worker terminated": worker_terminated,
    "worker paused, then resumed": worker_paused,
    "worker joined and left": worker_joined_and_left,
    "max.poll.interval exceeded": poll_interval_exceeded,
    "engine raised": engine_raised,
    "engine hung": engine_hung,
    "deadly record": deadly_record,
    "consumer process killed": consumer_process_killed,
    "broker restarted": broker_restarted,
    "broker killed": broker_killed,
    "broker away for a minute": broker_away,
    "broker paused": broker_paused,
    "leader of three killed": leader_killed,
    "transactions of others": others_transactions,
    "partitions added": partitions_added,
    "topic recreated": topic_recreated,
    "Redis killed": redis_killed,
    "Redis slow": redis_slow,
    "Redis full": redis_full,
    "Redis with garbage": redis_garbage,
    # Faults of the surroundings, under a kill or an outage.
    "metadata over the limit, worker killed": worker_killed,
    "worker killed, session of 10 s": worker_killed,
    "producer queue full, broker paused": broker_paused,
}
