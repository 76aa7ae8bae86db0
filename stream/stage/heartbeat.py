"""Periodic heartbeat messages and gauges. Owned by the consumer thread."""

import time
from collections.abc import Callable
from dataclasses import asdict

from earlybird.schemas.control import Heartbeat, PartitionProgress
from earlybird.schemas.signal import Model
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.ports import Clock, Source
from earlybird.stream.stage.messages import Control
from earlybird.stream.stage.pipeline import Pipeline


class HeartbeatSender:
    """Sender of periodic heartbeats, which also updates the gauges.

    A heartbeat is sent only if the pipeline advanced or is truly idle. A worker that hangs, or whose outcomes no broker
    takes, stops sending; one that waits for news does not.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        source: Source,
        worker: str,
        model: Model,
        publish: Callable[[Control], None],
        clock: Clock,
        metrics: Metrics,
        interval_ms: int,
    ) -> None:
        self._pipeline, self._source, self._worker, self._model = pipeline, source, worker, model
        self._publish, self._clock, self._metrics = publish, clock, metrics
        self._interval_s = interval_ms / 1000
        self._due_s = 0.0
        self._sequence = 0
        self._finished_before = 0

    def run_once(self) -> None:
        """Update gauges and send a heartbeat when due. Called in each turn of the loop."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._interval_s
        progress = self._progress()
        self._gauge(progress)
        finished, idle = self._pipeline.finished_total, self._pipeline.in_flight == 0
        if finished > self._finished_before or idle:
            self._send("running" if self._source.member else "starting", progress)
        self._finished_before = finished

    def last(self) -> None:
        """Send a final heartbeat, so that readers know that the worker stopped on purpose."""
        self._send("stopped", ())

    def _send(self, state: str, progress: tuple[PartitionProgress, ...]) -> None:
        self._sequence += 1
        heartbeat = Heartbeat.model_validate(
            {
                "worker": self._worker,
                "sequence": self._sequence,
                "state": state,
                "partitions": progress,
                "shed": self._pipeline.shed_total,
                "model_sha256": self._model.sha256,
                "config_hash": self._model.config_hash,
                "numerics": self._model.numerics,
                "sent_us": self._clock.now_us(),
            }
        )
        self._publish(Control(heartbeat))

    def _progress(self) -> tuple[PartitionProgress, ...]:
        offsets = self._pipeline.offsets
        return tuple(
            PartitionProgress(topic=p.topic, partition=p.number, **asdict(offsets.progress(p)))
            for p in sorted(offsets.partitions())
        )

    def _gauge(self, progress: tuple[PartitionProgress, ...]) -> None:
        oldest_us = min(
            (p.oldest_unfinished_ingested_us for p in progress if p.oldest_unfinished_ingested_us is not None),
            default=None,
        )
        age_s = 0.0 if oldest_us is None else (self._clock.now_us() - oldest_us) / 1e6
        self._metrics.unfinished(self._pipeline.in_flight, age_s)
        self._metrics.lag(self._source.lag())
        self._metrics.unreadable(self._source.unreadable)
