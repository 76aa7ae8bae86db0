"""A real Apache Kafka on this machine without Docker: one node or three, loopback only.

    python deploy/kafka/local.py start [--nodes 3] [--port 9092] [--home var/kafka]
    python deploy/kafka/local.py stop | status

It runs from Maven's jars: Java 17 is needed and, the first time, Maven (44 MB into ~/.cache/earlybird). Three nodes
listen on --port and the two ports after it, and keep three replicas of everything, of which two must be in sync. Tests
use LocalCluster, and LocalKafka of kafka_node.py, directly.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from kafka_node import KafkaUnavailable, LocalKafka, alive

# Three replicas of everything, of which two must have a record before it is acknowledged. A dead node is noticed after
# three seconds; the default is nine.
REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
}


class LocalCluster:
    """Three nodes, each broker and controller, that replicate everything; a context manager."""

    def __init__(
        self, home: Path, port: int = 0, options: Mapping[str, str] | None = None, *, detached: bool = False
    ) -> None:
        self.nodes = [
            LocalKafka(
                home / f"node-{number}",
                port and port + number - 1,
                REPLICATED | dict(options or {}),
                node=number,
                detached=detached,
            )
            for number in (1, 2, 3)
        ]
        for node in self.nodes:
            node.voters = ",".join(f"{each.node}@127.0.0.1:{each.controller_port}" for each in self.nodes)
            node.cluster_id = self.nodes[0].cluster_id

    @property
    def bootstrap_servers(self) -> str:
        """Addresses of all nodes as host:port,host:port,host:port."""
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def start(self, timeout_s: float = 240.0) -> None:
        """Start all nodes and wait until each answers; raises KafkaUnavailable."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait(time.monotonic() + timeout_s)

    def stop(self) -> None:
        """Stop all nodes; those that lack a majority are killed."""
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> "LocalCluster":
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()


def main() -> int:
    """Start, stop or show the broker of a development tree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("start", "stop", "status"))
    parser.add_argument("--nodes", type=int, choices=(1, 3), default=1)
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--home", type=Path, default=Path("var/kafka"), help="data, logs and process ids")
    arguments = parser.parse_args()
    home, pid_file = arguments.home.resolve(), arguments.home.resolve() / "pid"
    pids = [int(pid) for pid in pid_file.read_text().split()] if pid_file.exists() else []
    single = (len(pids) or arguments.nodes) == 1
    kafka = (LocalKafka if single else LocalCluster)(home, arguments.port, detached=True)
    nodes = [kafka] if isinstance(kafka, LocalKafka) else kafka.nodes
    running = bool(pids) and all(map(alive, pids))
    try:
        if arguments.action == "start" and not running:
            kafka.start()
            pid_file.write_text(" ".join(str(node.pid) for node in nodes))
            running = True
        elif arguments.action == "stop" and any(map(alive, pids)):
            for node, pid in zip(nodes, pids, strict=True):
                node.pid = pid
                node.stop()
            pid_file.unlink()
            print("Kafka has stopped")
            return 0
    except KafkaUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    print(f"Kafka answers at {kafka.bootstrap_servers} (logs: {home})" if running else "Kafka does not run")
    return 0 if running or arguments.action == "stop" else 1


if __name__ == "__main__":
    raise SystemExit(main())
