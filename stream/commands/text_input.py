"""Input of a command that takes texts: arguments, a file or stdin."""

import io
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from earlybird.engine.errors import ConfigError
from earlybird.stream.commands.arguments import as_utf8

_FILE_ENDINGS = (".jsonl", ".json", ".ndjson", ".txt", ".csv", ".gz", ".zst")
_FILE_BEGINNINGS = ("/", "./", "../", "~/")


def opened(inputs: Sequence[str]) -> AbstractContextManager[BinaryIO]:
    """Open the lines to classify: of one file, of stdin, or made of the texts.

    Raises ConfigError.
    """
    files = [each for each in inputs if each == "-" or _is_file(each)]
    if not files:
        return io.BytesIO(b"".join(json.dumps(as_utf8(text)).encode() + b"\n" for text in inputs))
    if len(inputs) > 1:
        raise ConfigError(f"{files[0]}: {_too_many(inputs, files)}")
    if files == ["-"]:
        return _stdin()
    try:
        return Path(files[0]).open("rb")
    except OSError as error:
        hint = "" if _there(files[0]) else f"; if it is a text: {_echoed(files[0])}"
        raise ConfigError(f"{files[0]}: cannot be read, {error.strerror}{hint}") from None


def _too_many(inputs: Sequence[str], files: Sequence[str]) -> str:
    """Say what to do about a file beside others; often it is an unquoted text."""
    if any(each == "-" or _there(each) for each in files):
        others = "more go through cat" if len(files) == len(inputs) else "a text needs a space in it"
        return f"one file, or texts only, expected; {others}"
    if len(files) < len(inputs):
        return f"no such file; a text without a space is read as a file name: {_echoed(files[0])}"
    return f"no such file; one text of several words needs quotes: earlybird classify {shlex.quote(' '.join(inputs))}"


def _echoed(text: str) -> str:
    return f"echo {shlex.quote(text)} | earlybird classify"


def _is_file(argument: str) -> bool:
    """Tell whether an argument is meant as a file.

    A mistyped file name must not be taken for a text.
    """
    if not argument.strip() or "\n" in argument:
        return False
    formed = len(argument.split()) == 1 or argument.startswith(_FILE_BEGINNINGS) or argument.endswith(_FILE_ENDINGS)
    return formed or _there(argument) or ("/" in argument and _there(argument.rpartition("/")[0]))


def _there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):  # too long for a name, or a NUL in it
        return False


def _stdin() -> AbstractContextManager[BinaryIO]:
    """Return a separate reader of stdin that is never closed.

    A thread blocked in sys.stdin holds its lock, on which the interpreter would wait or crash at exit.
    """
    if sys.stdin.isatty():
        print("type texts, one a line; Ctrl-D ends", file=sys.stderr)
    return nullcontext(open(sys.stdin.fileno(), "rb", closefd=False))
