"""Streaming decompression of .gz and .zst files; others are read as they are.

A truncated file is an error, not an end.
"""

import gzip
import sys
import zlib
from io import BufferedReader
from typing import IO, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DAMAGED = (OSError, EOFError, zlib.error, zstd.ZstdError)
"""Errors of reading a truncated or corrupt file."""


def unpacked(packed: IO[bytes], suffix: str) -> IO[bytes]:
    """Return a reader of the decompressed content, chosen by the file's suffix."""
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(packed))
    if suffix == ".zst" and cast(BufferedReader, packed).peek(1):  # ZstdFile takes an empty file for a truncated one
        return cast(IO[bytes], zstd.ZstdFile(packed))
    return packed
