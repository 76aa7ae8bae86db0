"""Measurement of `earlybird replay recompute` as shipped, in a process of its own.

    python -m earlybird.stream.bench.recompute ARCHIVE

Settings come from the environment. The last line on stdout is the measurement, from the first record read to the
manifest written; the model is loaded before that.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from earlybird.stream.archive.reader import ArchiveHistory
from earlybird.stream.bench.worker import Measured
from earlybird.stream.config.settings import load
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.ports import Partition
from earlybird.stream.replay.run import Options, plan_of, run_replay
from earlybird.stream.timeline.availability import StampedRecord
from earlybird.stream.timeline.merge import Span, Window


class Timed(ArchiveHistory):
    """Archive that remembers when it was last read.

    The raw records are read last, after the model is loaded.
    """

    begun_s, begun_cpu_s = 0.0, 0.0

    def read(self, spans: Mapping[Partition, Span], window: Window) -> list[Iterator[StampedRecord]]:
        self.begun_s, self.begun_cpu_s = time.perf_counter(), time.process_time()
        return super().read(spans, window)


def measure(archive: Path) -> Measured:
    """Recompute the archive and measure it.

    One item is one signal, retraction or dead letter; a refused item that names itself counts twice.
    """
    settings, history = load(), Timed(archive)
    with TemporaryDirectory() as folder:
        options = Options(Path(folder) / "again", "recompute", archive=archive)
        manifest = run_replay(settings, options, history, plan_of(settings, options, history))
        wall_s, cpu_s = time.perf_counter() - history.begun_s, time.process_time() - history.begun_cpu_s
    counts = manifest["counts"]
    return Measured(counts["signals"] + sum(counts["rejections"].values()), wall_s, cpu_s)


def main() -> int:
    """Measure and print; the exit status is 0."""
    parser = argparse.ArgumentParser(prog="python -m earlybird.stream.bench.recompute", description=__doc__)
    parser.add_argument("archive", type=Path)
    args = parser.parse_args()
    configure_logging("error", "json")
    print(json.dumps(asdict(measure(args.archive))), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
