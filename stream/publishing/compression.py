"""Streaming decompression of .gz and .zst files; others are read as they are.

A truncated file is an error, not an end.
"""

import gzip
import io
import zlib
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DAMAGED = (OSError, EOFError, zlib.error)
"""Errors of reading a truncated or corrupt file."""

_PART = 16_384


def unpacked(packed: IO[bytes], suffix: str) -> IO[bytes]:
    """Return a reader of the decompressed content, chosen by the file's suffix."""
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(packed))
    return io.BufferedReader(_Zstd(packed)) if suffix == ".zst" else packed


class _Zstd(io.RawIOBase):
    """Reader of a sequence of Zstandard frames.

    zstandard's own reader cannot tell a truncated file from a complete one.
    """

    def __init__(self, packed: IO[bytes]) -> None:
        import zstandard

        self._packed, self._zstd = packed, zstandard
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False  # inside a frame
        self._rest = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """See RawIOBase.readinto. Raises DAMAGED."""
        while not self._ready:
            part = self._rest or self._packed.read(_PART)
            if not part:
                if self._begun:
                    raise EOFError("the file ends in the middle of a frame")
                return 0
            self._unpack(part)
        room = memoryview(buffer).cast("B")
        count = min(len(room), len(self._ready))
        room[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def _unpack(self, part: bytes) -> None:
        try:
            self._ready = self._frame.decompress(part)
        except self._zstd.ZstdError as error:
            raise OSError(str(error)) from None
        self._begun, self._rest = not self._frame.eof, self._frame.unused_data
        if self._frame.eof:
            self._frame = self._zstd.ZstdDecompressor().decompressobj()
