"""Records as Parquet and Arrow files; pyarrow is imported at first use.

The adapters get pyarrow from `arrow`. A signal's columns are for queries; `value` holds the whole message as it was on
the topic, and is what is read back.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from earlybird.schemas.signal import Signal
from earlybird.stream.adapters.columns import SIGNAL, schema_of, table_of
from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.extras import install_hint
from earlybird.stream.ports import Record
from earlybird.stream.timeline.availability import StampedRecord

ROW_GROUP = 16_384
LEVEL = 3  # zstd compression level
_PREFIX = b"earlybird."

Row = dict[str, Any]


def arrow() -> Any:
    """Return the pyarrow module with its Parquet part; raises SettingsError without it."""
    try:
        pa = import_module("pyarrow")
        import_module("pyarrow.compute")
        import_module("pyarrow.ipc")
        import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise SettingsError(f"Parquet and Arrow files need pyarrow: {install_hint('archive')}") from None
    return pa


@contextmanager
def reading(pa: Any, path: Path) -> Iterator[None]:
    """Turn errors of reading a file into SourceErrors."""
    try:
        yield
    except FileNotFoundError:
        raise SourceError(f"{path}: gone; the archive was compacted meanwhile, try again") from None
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: {error}") from None


def record_row(stamped: StampedRecord, available_us: int) -> Row:
    """Return the columns that every archived record has."""
    record = stamped.record
    return {
        "available_us": available_us,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_us": record.timestamp_us,
        "appended": stamped.appended,
        "key": record.key,
        "value": record.value,
        "headers": [{"name": name, "value": value} for name, value in record.headers],
    }


def record_of(row: Mapping[str, Any]) -> StampedRecord:
    """Rebuild the record from a row, the inverse of `record_row`."""
    headers = tuple((header["name"], header["value"]) for header in row["headers"])
    return StampedRecord(
        Record(row["topic"], row["partition"], row["offset"], row["key"], row["value"], row["timestamp_us"], headers),
        row["appended"],
    )


def signal_row(signal: Signal | None) -> Row:
    """Return the columns by which signals are queried; null for other records."""
    if signal is None:
        return dict.fromkeys(SIGNAL)
    probs, exited, times = signal.probs, signal.exit, signal.ts
    return {
        "signal_id": signal.signal_id,
        "item_key": signal.item_key,
        "revision": signal.revision,
        "action": signal.action.value,
        "source": signal.source,
        "item_type": signal.item_type,
        "symbols": [symbol.symbol for symbol in signal.symbols],
        "label": None if signal.label is None else signal.label.value,
        "p_negative": None if probs is None else probs.negative,
        "p_neutral": None if probs is None else probs.neutral,
        "p_positive": None if probs is None else probs.positive,
        "score": signal.score,
        "confidence": signal.confidence,
        "exit_layer": None if exited is None else exited.layer,
        "exit_reason": None if exited is None else exited.reason.value,
        "cache_hit": None if signal.novelty is None else signal.novelty.cache_hit,
        "model_sha256": signal.model.sha256,
        "config_hash": signal.model.config_hash,
        "numerics": signal.model.numerics,
        "digest": signal.digest,
        "run_id": signal.run_id,
        "published_us": times.published_us,
        "updated_us": times.updated_us,
        "ingested_us": times.ingested_us,
        "emitted_us": times.emitted_us,
        "dup_of": None if signal.novelty is None else signal.novelty.dup_of,
        "dup_count": None if signal.novelty is None else signal.novelty.dup_count,
        "relevance": [symbol.relevance for symbol in signal.symbols],
        "headline": signal.headline,
        "url": signal.url,
        "model_id": signal.model.id,
    }


class TableFile:
    """One Parquet or Arrow IPC file, written in row groups of a fixed size.

    Equal rows give equal bytes. The file gets its name once it is complete.
    """

    def __init__(
        self, path: Path, kind: Literal["raw", "signals", "replayed"], form: Literal["parquet", "arrow"] = "parquet"
    ) -> None:
        """Prepare a file at `path`; raises SettingsError without pyarrow."""
        self.path, self._form = path, form
        self._pa = arrow()
        self._schema = schema_of(self._pa, kind)
        self._part = path.with_name(f".{path.name}.part")
        self._rows: list[Row] = []
        self._tables: Any = None
        self._metadata: dict[str, str] = {}

    def describe(self, metadata: Mapping[str, str]) -> None:
        """Store facts about the file in its metadata, before the first row."""
        self._metadata = dict(metadata)

    def add(self, row: Row) -> None:
        """Add one row; missing columns are null."""
        self._rows.append(row)
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the remaining rows, fsync the file and give it its name."""
        self._flush()
        self._tables.close()
        with self._part.open("rb") as written:
            os.fsync(written.fileno())
        self._part.replace(self.path)
        _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Delete the unfinished file."""
        if self._tables is not None:
            self._tables.close()
        self._part.unlink(missing_ok=True)

    def _flush(self) -> None:
        pa = self._pa
        if self._tables is None:
            described = {_PREFIX + name.encode(): value.encode() for name, value in self._metadata.items()}
            self._schema = schema = self._schema.with_metadata(described)
            if self._form == "parquet":
                self._tables = pa.parquet.ParquetWriter(self._part, schema, compression="zstd", compression_level=LEVEL)
            else:
                options = pa.ipc.IpcWriteOptions(compression="zstd")
                self._tables = pa.ipc.new_file(str(self._part), schema, options=options)
        if self._rows:
            self._tables.write(table_of(pa, self._rows, self._schema, str(self.path)))
            self._rows = []


def write_table(path: Path, kind: Literal["raw", "signals"], rows: Sequence[Row], metadata: Mapping[str, str]) -> None:
    """Write a whole file at once: it appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = TableFile(path, kind)
    file.describe(metadata)
    for row in rows:
        file.add(row)
    file.close()


def read_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Yield a Parquet file's rows in order, one row group in memory; raises SourceError."""
    pa = arrow()
    with reading(pa, path), pa.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP, columns=columns):
            yield from batch.to_pylist()


def columns_of(path: Path) -> list[str]:
    """Return a Parquet file's column names; raises SourceError."""
    pa = arrow()
    with reading(pa, path):
        return list(pa.parquet.read_schema(path).names)


def metadata_of(path: Path) -> dict[str, str]:
    """Return what `describe` stored in a Parquet file; raises SourceError."""
    pa = arrow()
    with reading(pa, path):
        found = pa.parquet.read_schema(path).metadata or {}
    return {
        name.removeprefix(_PREFIX).decode(): value.decode() for name, value in found.items() if name.startswith(_PREFIX)
    }


def rows_sha256(rows: Iterable[Row]) -> str:
    """Return the SHA-256 over keys and values, in order."""
    content = hashlib.sha256()
    for row in rows:
        for part in (row["key"], row["value"]):
            content.update(b"-" if part is None else json.dumps(len(part)).encode() + b":" + part)
    return content.hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
