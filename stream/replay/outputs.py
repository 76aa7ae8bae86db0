"""Writes replayed signals to a file or a topic; equal signals give equal bytes."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from earlybird.schemas.codec import encode
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters import parquet
from earlybird.stream.ports import Outgoing, Sink
from earlybird.stream.stage.outcome import signal_headers
from earlybird.stream.timeline.availability import AVAILABLE

Format = Literal["parquet", "arrow", "jsonl", "topic"]

SCHEMA = "replayed/1"


class Output(Protocol):
    """Takes signals in the order in which they are to be read."""

    def signal(self, signal: Signal, available_us: int) -> None:
        """Write the next signal."""

    def close(self) -> dict[str, Any]:
        """Make all signals durable; return facts for the manifest."""


class TableOutput:
    """Writes `signals.parquet` or `signals.arrow`, sorted by availability.

    The columns are those of stream.adapters.parquet.
    """

    def __init__(self, folder: Path, form: Literal["parquet", "arrow"], about: Mapping[str, str]) -> None:
        """`about` is kept in the file's metadata."""
        self._file = parquet.TableFile(folder / f"signals.{form}", "replayed", form)
        self._file.describe({"format": SCHEMA, "schema": Signal.SCHEMA, **about})

    def signal(self, signal: Signal, available_us: int) -> None:
        row = {"available_us": available_us, **parquet.signal_row(signal), "value": encode(signal)}
        self._file.add(row)

    def close(self) -> dict[str, Any]:
        self._file.close()
        return _file_facts(self._file.path)


class LinesOutput:
    """Writes `signals.jsonl`: one signal per line, with `available_us` as first field."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "signals.jsonl"
        self._part = folder / ".signals.jsonl.part"
        self._file = self._part.open("wb")

    def signal(self, signal: Signal, available_us: int) -> None:
        self._file.write(b'{"available_us":%d,' % available_us + encode(signal)[1:] + b"\n")

    def close(self) -> dict[str, Any]:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._part.replace(self._path)
        return _file_facts(self._path)


class TopicOutput:
    """Writes records like the live stage's, with the instant of availability as create time."""

    def __init__(self, sink: Sink, topic: str, published: Iterable[str] = ()) -> None:
        """`published`: ids of this run's signals already in the topic; not sent again."""
        self._sink, self._topic = sink, topic
        self._published = Counter(published)

    def signal(self, signal: Signal, available_us: int) -> None:
        if self._published[signal.signal_id]:
            self._published[signal.signal_id] -= 1
            return
        headers = (*signal_headers(signal.model_dump(mode="json")), (AVAILABLE, str(available_us).encode()))
        self._sink.send(Outgoing(self._topic, signal.item_key.encode(), encode(signal), headers, available_us))
        self._sink.receipts()

    def close(self) -> dict[str, Any]:
        while self._sink.unacknowledged():
            self._sink.receipts(200)
        self._sink.close()
        return {"topic": self._topic}


class ReplaySummary:
    """Counts of a replay, and a hash over everything but `ts`, `run_id`, `headline` and `url`."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.rejections: Counter[str] = Counter()
        self.exit_layers: Counter[int] = Counter()
        self.models: dict[str, dict[str, Any]] = {}  # by sha256, configuration and numerics
        self.symbol_tables: set[str] = set()
        self.first_us: int | None = None
        self.last_us: int | None = None
        self._content = hashlib.sha256()

    @property
    def signals(self) -> int:
        """Number of signals, retractions included."""
        return self.actions.total()

    @property
    def content_sha256(self) -> str:
        """Hash of the content so far."""
        return self._content.hexdigest()

    def signal(self, signal: Signal, available_us: int) -> None:
        model = signal.model
        self.models.setdefault(f"{model.sha256}:{model.config_hash}:{model.numerics}", model.model_dump(mode="json"))
        self.symbol_tables.update([signal.symbol_table] if signal.symbol_table else ())
        self.actions[signal.action.value] += 1
        if signal.label is not None and signal.exit is not None:
            self.labels[signal.label.value] += 1
            self.exit_layers[signal.exit.layer] += 1
        self.first_us = available_us if self.first_us is None else min(self.first_us, available_us)
        self.last_us = available_us if self.last_us is None else max(self.last_us, available_us)
        self._content.update(b"%d " % available_us)
        self._content.update(signal.model_dump_json(exclude={"ts", "run_id", "headline", "url"}).encode() + b"\n")

    def rejection(self, rejection: Rejection) -> None:
        """Count a dead letter: a text without a signal."""
        self.rejections[rejection.reason.value] += 1

    def report(self) -> dict[str, Any]:
        return {
            "signals": self.signals,
            "actions": dict(sorted(self.actions.items())),
            "labels": dict(sorted(self.labels.items())),
            "exit_layers": {str(layer): count for layer, count in sorted(self.exit_layers.items())},
            "rejections": dict(sorted(self.rejections.items())),
            "first_available_us": self.first_us,
            "last_available_us": self.last_us,
            "content_sha256": self.content_sha256,
        }


class LinesFile:
    """A file of JSON objects, one per line, in order of writing."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, content: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, by a rename."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)


def _file_facts(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "file": path.name,
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
