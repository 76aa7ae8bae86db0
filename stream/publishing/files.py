"""Feed files: opened by name, read line by line, and merged by availability."""

import heapq
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from earlybird.stream.errors import FeedError
from earlybird.stream.publishing.compression import DAMAGED, unpacked
from earlybird.stream.publishing.line_format import BadLine, FeedItem, Line, LineFormat
from earlybird.stream.publishing.lines import Numbered, Unreadable, feed_lines, whole
from earlybird.stream.publishing.tables import csv_lines, parquet_rows

_READERS: dict[str, Callable[[IO[bytes]], Iterator[Numbered]]] = {
    ".csv": csv_lines,
    ".tsv": csv_lines,
    ".parquet": parquet_rows,
    ".xml": whole,
    ".rss": whole,
    ".atom": whole,
}
"""Reader by the file's suffix, before that of its compression; all other files hold JSON."""


class FeedFile:
    """Lines of one file, or of stdin for `-`.

    Its name says what it holds: .csv, .parquet, .xml, else JSON, also with .gz and .zst. Iterate only once.
    """

    def __init__(self, path: Path) -> None:
        """Open the file. Raises FeedError when it cannot be opened."""
        self.path = path
        self.name = str(path)  # the whole path: files in several folders may share a name
        self.finished = False  # every line was yielded
        try:
            self._raw: IO[bytes] = sys.stdin.buffer if str(path) == "-" else path.open("rb")
            self.size = 0 if str(path) == "-" else path.stat().st_size
        except OSError as error:
            raise FeedError(f"{path}: {error.strerror}") from None

    @property
    def position(self) -> int:
        """Bytes of the file (as stored) read so far; at most `size`."""
        return self._raw.tell() if self.size and not self._raw.closed else self.size

    def close(self) -> None:
        """Close the file, read to its end or not."""
        self._raw.close()

    def items(self, form: LineFormat) -> Iterator[Line]:
        """Yield what every line holds, without empty lines."""
        at_us, first, resume_at = 0, True, 1
        packed = self.path.suffix in (".gz", ".zst")
        read = _READERS.get(self.path.with_suffix("").suffix if packed else self.path.suffix, feed_lines)
        try:
            with self._raw, unpacked(self._raw, self.path.suffix) as content:
                for number, line in read(content):
                    place = f"{self.name}:{number}"
                    if isinstance(line, Unreadable):
                        found: list[Line] = [BadLine(place, line.why)]
                    else:
                        resume_at = resume_at if form.held else number
                        found = form.lines(line, place, first=first)
                    last = max((index for index, each in enumerate(found) if isinstance(each, FeedItem)), default=-1)
                    for index, each in enumerate(found):
                        if isinstance(each, FeedItem):
                            after = resume_at if index < last or form.held else number + 1
                            each, at_us = replace(each, lines=(resume_at, after)), each.at_us
                        yield each if isinstance(each, FeedItem) else replace(each, at_us=at_us)
                    first = False
        except DAMAGED as error:
            raise FeedError(f"{self.path}: {error}") from None
        self.finished = True


def merged(files: Sequence[FeedFile], form: LineFormat) -> Iterator[Line]:
    """Merge the lines of all files by the time their items became available.

    Each file keeps its own order. Records that a parser still holds at the end are bad lines.
    """
    yield from heapq.merge(*(file.items(form) for file in files), key=lambda line: line.at_us)
    yield from form.rest(f"{files[-1].name}:0" if files else "-:0")
