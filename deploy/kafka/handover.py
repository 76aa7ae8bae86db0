"""Measure the gap in signals while a partition moves between workers.

    python deploy/kafka/handover.py [--protocol classic|consumer] [--rounds 3] [--rate 100] [--client-defaults]

A second worker joins, leaves, joins again and is killed. The script starts a real Kafka and real workers (`earlybird
run`) and publishes news at a steady pace. Gaps come from the broker's append times of the signals: the longest time
between two signals of a partition, and of these the longest over all partitions. `quiet` is the same figure while
nothing moves.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
from earlybird.schemas.codec import decode
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.adapters.topics import create_topics, stage_topics
from earlybird.stream.ports import Outgoing
from kafka_node import LocalKafka

PARTITIONS, KEYS = 8, 64
SETTLED_S = 3.0  # pause after a move, so that it does not affect the next figure
# Defaults of the clients and the broker.
CLIENT_DEFAULTS = {"HEARTBEAT_INTERVAL_MS": "3000", "SESSION_TIMEOUT_MS": "45000"}
BROKER_DEFAULTS = {
    "group.consumer.min.heartbeat.interval.ms": "5000",
    "group.consumer.heartbeat.interval.ms": "5000",
}

Signals = dict[int, list[float]]  # partition -> append times of its signals, in seconds


class Load:
    """News at a steady pace, and the times of their signals, as context manager."""

    def __init__(self, bootstrap_servers: str, rate: int) -> None:
        self.appended: Signals = defaultdict(list)
        self._bootstrap_servers, self._rate = bootstrap_servers, rate
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=run) for run in (self._send, self._read)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def longest_gap(self, move: Callable[[], object]) -> float:
        """Return the longest gap of any partition in seconds.

        Measured during `move` and until all partitions are served again.
        """
        since_s = time.time()
        move()
        moved_s, deadline_s = time.time(), time.time() + 120
        while len(self.appended) < PARTITIONS or min(instants[-1] for instants in self.appended.values()) < moved_s:
            if time.time() > deadline_s:
                raise SystemExit("a partition is without signals for two minutes")
            time.sleep(0.1)
        time.sleep(SETTLED_S)
        return max(_longest(sorted(instants), since_s) for instants in self.appended.values())

    def _send(self) -> None:
        sink, number, start_s = KafkaSink(self._bootstrap_servers), 0, time.monotonic()
        while not self._stop.is_set():
            while number < (time.monotonic() - start_s) * self._rate:
                now_us = time.time_ns() // 1000
                item = {"item_key": f"wire:{number}", "source": "wire", "source_item_id": str(number)}
                item |= {"item_type": "news", "headline": f"Acme wins order {number}", "ingested_us": now_us}
                # Few keys in turn: each partition gets its news at even intervals.
                sink.send(Outgoing("news.raw", b"%d" % (number % KEYS), json.dumps(item).encode()))
                number += 1
            sink.receipts(0)
            time.sleep(0.002)
        sink.close()

    def _read(self) -> None:
        tail = Tail(self._bootstrap_servers, ["signals"], start="beginning", options={"fetch.wait.max.ms": 10})
        while not self._stop.is_set():
            for record in tail.poll(50):
                place = decode(Signal, record.value or b"").raw
                self.appended[place.partition].append((record.timestamp_us or 0) / 1e6)
        tail.close()


def _longest(instants: list[float], since_s: float) -> float:
    """Return the longest gap between neighbours, the later one after `since_s`."""
    return max(after - before for before, after in pairwise(instants) if after > since_s)


class Group:
    """Group of workers, each a process."""

    def __init__(self, bootstrap_servers: str, protocol: str, options: dict[str, str], logs: Path) -> None:
        self._logs = logs
        settings = {"KAFKA__BOOTSTRAP_SERVERS": bootstrap_servers, "KAFKA__GROUP_PROTOCOL": protocol}
        settings |= {f"KAFKA__OPTIONS__{name}": value for name, value in options.items()}
        settings |= {
            "TOPICS__RAW": '[{"name": "news.raw"}]',
            "HTTP__PORT": "0",
            "LOG__FORMAT": "json",
            "ENGINE__THREADS": "1",
        }
        self._environment = os.environ | {f"EARLYBIRD_{name}": value for name, value in settings.items()}
        self._workers: list[subprocess.Popen[bytes]] = []

    def join(self) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it owns its share of the partitions."""
        log = self._logs / f"worker-{len(self._workers)}.log"
        with log.open("wb") as out:
            command = [sys.executable, "-m", "earlybird.stream.cli", "run"]
            worker = subprocess.Popen(command, env=self._environment, stdout=out, stderr=out)
        wanted = PARTITIONS if not self._workers else PARTITIONS // 2
        self._workers.append(worker)
        while owned(log) < wanted:
            if worker.poll() is not None:
                raise SystemExit(f"a worker ended:\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        return worker

    def leave(self, how: signal.Signals) -> None:
        """Send the signal to the youngest worker and wait for its end."""
        self._workers[-1].send_signal(how)
        self._workers[-1].wait()

    def end(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.kill()
            worker.wait()


def owned(log: Path) -> int:
    """Return the number of partitions that a worker's log shows as assigned."""
    count = 0
    for line in log.read_text(errors="replace").splitlines():
        event = json.loads(line) if line.startswith("{") else {"event": ""}
        if event["event"] == "partitions.assigned":
            count += len(event["partitions"])
    return count


def measure(protocol: str, rounds: int, rate: int, defaults: bool) -> dict[str, list[float]]:
    """Return the longest gap of any partition per kind of move and round."""
    kinds: dict[str, list[float]] = {"quiet": [], "join": [], "leave": [], "kill -9": []}
    with tempfile.TemporaryDirectory() as home:
        broker = LocalKafka(Path(home) / "kafka", options=BROKER_DEFAULTS if defaults else {})
        with broker:
            topics = stage_topics(
                ["news.raw"], "signals", "signals.control", "raw.dlq", partitions=PARTITIONS, replication=1
            )
            create_topics(broker.bootstrap_servers, topics)
            group = Group(broker.bootstrap_servers, protocol, CLIENT_DEFAULTS if defaults else {}, Path(home))
            try:
                with Load(broker.bootstrap_servers, rate) as load:
                    group.join()
                    load.longest_gap(lambda: None)  # waits for the backlog from before the first worker
                    for _ in range(rounds):
                        kinds["quiet"].append(load.longest_gap(lambda: None))
                        kinds["join"].append(load.longest_gap(group.join))
                        kinds["leave"].append(load.longest_gap(lambda: group.leave(signal.SIGTERM)))
                        group.join()
                        kinds["kill -9"].append(load.longest_gap(lambda: group.leave(signal.SIGKILL)))
            finally:
                group.end()
    return kinds


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", choices=("classic", "consumer"), action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=100, help="news a second")
    parser.add_argument("--client-defaults", action="store_true", help="without the settings that earlybird ships")
    arguments = parser.parse_args()
    for protocol in arguments.protocol or ("classic", "consumer"):
        kinds = measure(protocol, arguments.rounds, arguments.rate, arguments.client_defaults)
        for kind, gaps in kinds.items():
            print(f"{protocol:9} {kind:8} median {median(gaps):.2f} s, longest {max(gaps):.2f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
