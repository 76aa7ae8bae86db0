"""Signals of an archive or of a replay's output, read back whole."""

from collections.abc import Iterator
from pathlib import Path

from earlybird.schemas.codec import decode
from earlybird.schemas.signal import Signal
from earlybird.stream.adapters import parquet
from earlybird.stream.adapters.signal_files import FACTS, read_signal_rows
from earlybird.stream.archive.reader import signal_files


def read_signals(path: Path, start_us: int | None = None, end_us: int | None = None) -> Iterator[tuple[Signal, int]]:
    """Signals and when they were available: an archive's in that order, a replay's in the order of the file."""
    replayed = path / "signals.parquet" if path.is_dir() else path
    if replayed.is_file():
        for row in parquet.read_rows(replayed, ["available_us", "value"]):
            yield decode(Signal, row["value"]), row["available_us"]
        return
    for rows in read_signal_rows(signal_files(path, start_us, end_us), FACTS, start_us, end_us):
        (instants,) = rows.columns(["available_us"])
        for number, available_us in enumerate(instants):
            yield decode(Signal, rows.message(number)), available_us
