"""Packed files, unpacked while they are read: .gz, .zst, or plain; one that was cut is an error and not an end."""

import gzip
import io
import zlib
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DAMAGED = (OSError, EOFError, zlib.error)
"""What reading raises where a file was cut or is none of its kind."""

_PART = 16_384


def unpacked(packed: IO[bytes], suffix: str) -> IO[bytes]:
    """What is in a file whose name ends so."""
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(packed))
    return io.BufferedReader(_Zstd(packed)) if suffix == ".zst" else packed


class _Zstd(io.RawIOBase):
    """Frame after frame. zstandard's own reader cannot tell a file that was cut from one that is over."""

    def __init__(self, packed: IO[bytes]) -> None:
        import zstandard

        self._packed, self._zstd = packed, zstandard
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._begun = False  # within a frame
        self._rest = self._ready = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """As RawIOBase.readinto. Raises DAMAGED."""
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
