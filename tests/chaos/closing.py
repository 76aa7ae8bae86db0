"""Close members of groups in the middle of joining: no close may be late, and none without end.

    PYTHONPATH=tests/support:deploy/kafka python -m tests.chaos.closing --members 4992 --at-once 48

Workers of both protocols and readers are closed within a moment of joining, two to a group, so that some leave while
they are given partitions. They live in a process of their own: a client that waits with Python's lock held stops all of
it. The exit status is 1 if a close took longer than the product allows (`client.not_left`), or if that process stood
still.
"""

import argparse
import multiprocessing
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from pathlib import Path
from unittest.mock import Mock

from structlog.testing import capture_logs

from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.adapters.subscriber import Subscriber
from earlybird.stream.adapters.topics import Topic, create_topics
from earlybird.stream.config.client_options import KafkaEndpoint
from kafka_node import LocalKafka

TOPIC = "raw"
STOOD_STILL_S = 60.0  # without one close; each has 5 s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=480, metavar="N")
    parser.add_argument("--at-once", type=int, default=48, metavar="N")
    parser.add_argument("--within", type=float, default=0.1, metavar="S", help="of joining")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, LocalKafka(Path(home)) as kafka:
        create_topics(kafka.bootstrap_servers, [Topic(TOPIC, 6)])
        closed, late = closes(kafka.bootstrap_servers, args.members, args.at_once, args.within, args.seed)
    print(f"{closed} of {args.members} closed, {late} late" + ("; they stood still" if closed < args.members else ""))
    return 1 if late or closed < args.members else 0


def closes(brokers: str, members: int, at_once: int, within_s: float, seed: int) -> tuple[int, int]:
    """How many closed, and how many of them late."""
    context = multiprocessing.get_context("spawn")
    heard, said = context.Pipe(duplex=False)
    process = context.Process(target=live, args=(brokers, members, at_once, within_s, seed, said))
    process.start()
    said.close()
    closed = late = 0
    try:
        while closed < members and heard.poll(STOOD_STILL_S):
            late = heard.recv()
            closed += 1
    finally:
        process.kill()
    return closed, late


def live(brokers: str, members: int, at_once: int, within_s: float, seed: int, said: Connection) -> None:
    """Open and close them, and say after each how many were late so far."""
    rng = random.Random(seed)
    with ThreadPoolExecutor(at_once) as pool, capture_logs() as logs:
        made = [pool.submit(member, brokers, number, seed, rng.uniform(0, within_s)) for number in range(members)]
        for each in as_completed(made):
            each.result()
            said.send(sum(line["event"] == "client.not_left" for line in logs))


def member(brokers: str, number: int, seed: int, stays_s: float) -> None:
    """One that joins, is there for so long, and closes; every other one polls meanwhile."""
    kind, group = number // 2 % 3, f"group-{seed}-{number // 2}"
    joined: KafkaSource | Subscriber
    if kind == 2:
        joined = Subscriber(brokers, [TOPIC], start="now", group=group, timeout_s=STOOD_STILL_S)
    else:
        joined = KafkaSource(KafkaEndpoint(brokers, {}), [TOPIC], group, protocol="consumer" if kind else "classic")
        joined.subscribe(Mock())
    if number // 6 % 2:
        time.sleep(stays_s)
    else:
        joined.poll(round(1000 * stays_s), 500)
    joined.close()


if __name__ == "__main__":
    raise SystemExit(main())
