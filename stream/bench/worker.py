"""One worker under measurement: the stage as shipped on a chosen engine, as a process.

    python -m earlybird.stream.bench.worker --engine null:70000 [--encoder bundled] [--until-idle] [--channel CHANNEL]

Settings come from the environment. The worker joins its group with every partition paused and prints its assignment on
stdout (`{"assigned": 8}`). A line on stdin starts it; the end of stdin ends it. Its last line is the measurement.
"""

import argparse
import json
import sys
import threading
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import torch

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.adapters.kafka import KafkaSource
from earlybird.stream.bench import null
from earlybird.stream.config.settings import Settings, load
from earlybird.stream.consumer_processes.channel import Channel
from earlybird.stream.consumer_processes.remote_engine import RemoteEngine
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import Partition
from earlybird.stream.run_worker import open_cache, open_sink
from earlybird.stream.service import load_engine, origin_of
from earlybird.stream.stage.pipeline import Pipeline
from earlybird.stream.stage.stage import Stage

IDLE_S = 3.0  # nothing new for this long and nothing in flight: all was read
MOST_PARTITIONS = 64


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurement from the first finished text to the last.

    `cpu_s` is that of the whole process, librdkafka's threads included.
    """

    texts: int
    wall_s: float
    cpu_s: float


class Race(threading.Event):
    """Stop event that samples progress: the pipeline queries it on every turn."""

    def __init__(self, source: KafkaSource, topic: str, *, until_idle: bool) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self._source, self._until_idle = source, until_idle
        self._held = [Partition(topic, number) for number in range(MOST_PARTITIONS)]
        self._go = threading.Event()
        self._assigned = 0
        self._samples: list[tuple[int, float, float]] = []  # (finished, wall, cpu) of the first and the last
        source.pause(self._held)
        threading.Thread(target=self._listen, daemon=True).start()

    def is_set(self) -> bool:
        assert self.pipeline is not None, "asked before the stage was built. This is a bug."
        if len(self.pipeline.offsets.partitions()) != self._assigned:
            self._assigned = len(self.pipeline.offsets.partitions())
            print(json.dumps({"assigned": self._assigned}), flush=True)
        if self._held and self._go.is_set():
            self._source.resume(self._held)
            self._held = []
        self._sample(self.pipeline)
        return super().is_set()

    def measured(self) -> Measured:
        """Return the measurement; zeros when fewer than two turns finished a text."""
        if len(self._samples) < 2:
            return Measured(0, 0.0, 0.0)
        (first, start_s, start_cpu_s), (last, end_s, end_cpu_s) = self._samples
        return Measured(last - first, end_s - start_s, end_cpu_s - start_cpu_s)

    def _sample(self, pipeline: Pipeline) -> None:
        now_s, finished = time.perf_counter(), pipeline.finished_total
        if not finished:
            return
        if not self._samples or finished != self._samples[-1][0]:
            self._samples[1:] = [(finished, now_s, time.process_time())]
        elif self._until_idle and pipeline.in_flight == 0 and now_s - self._samples[-1][1] > IDLE_S:
            self.set()

    def _listen(self) -> None:
        for _ in sys.stdin:
            self._go.set()
        self.set()


def main() -> int:
    """Serve until stdin ends or, with --until-idle, until nothing is left to read."""
    parser = argparse.ArgumentParser(prog="python -m earlybird.stream.bench.worker", description=__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--encoder", choices=["null", "bundled"], default="null")
    parser.add_argument("--until-idle", action="store_true")
    parser.add_argument(
        "--channel", type=Channel.from_argument, help="to the process that computes in the engine's place"
    )
    args = parser.parse_args()
    settings = load()
    configure_logging("error", "json")
    torch.set_num_threads(1)
    kafka, topic = settings.kafka, settings.topics.raw[0].name
    engine, origin = _engine(settings, args.engine, args.encoder)
    source = KafkaSource(kafka.endpoint, [topic], settings.group)
    sink = open_sink(settings)
    race = Race(source, topic, until_idle=args.until_idle)
    with closing(open_cache(settings, origin.max_layers)) as cache:
        metrics = Metrics(origin.max_layers)
        make_inference = args.channel and partial(RemoteEngine, args.channel.consumer_end(), None)
        stage = Stage(
            settings, engine, origin, source, sink, cache, SystemClock(), metrics, make_inference=make_inference
        )
        race.pipeline = stage.pipeline
        stage.run(race)
    print(json.dumps(asdict(race.measured())), flush=True)
    return 0


def _engine(settings: Settings, engine: str, encoder: str) -> tuple[Engine, Any]:
    if engine == "bundled":
        loaded = load_engine(settings)
        return loaded, origin_of(loaded, settings)
    reader = Engine.load(EngineConfig()).encoder if encoder == "bundled" else null.NullEncoder()
    origin = null.origin(settings.topics.signals, settings.topics.dlq)
    return cast(Engine, null.NullEngine(reader, null.rate_of(engine))), origin


if __name__ == "__main__":
    raise SystemExit(main())
