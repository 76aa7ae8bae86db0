"""Entry point of `earlybird COMMAND ...`; imports stream.commands.COMMAND on demand.

A command's module has `add_arguments(parser)` and `run(args) -> int`. Exit status: 0 done, 1 done but something in the
input was wrong, 2 could not be done (one line on stderr says why), 130 or 143 interrupted (SIGINT, SIGTERM).
"""

import argparse
import difflib
import errno
import importlib
import io
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

from earlybird.engine.errors import EngineError
from earlybird.stream import extras
from earlybird.stream.errors import StreamError
from earlybird.stream.observability.escape import escaped_lines

COMMANDS = {
    "demo": "the whole path on this machine: embedded Kafka and Redis, bundled model and feed",
    "run": "the service: raw topics in, signals out",
    "feed": "publish files of texts to the raw topics",
    "pull": "live news and posts of a vendor, or RSS feeds, to the raw topics",
    "symbols": "a table of names for texts without symbols: make, check and measure it",
    "views": "sentiment per symbol over windows, by HTTP and as a topic",
    "say": "send one text to a running stage and show its signal",
    "signals": "show signals as they appear",
    "topics": "create the topics, or list them",
    "audit": "account for every raw record by its position",
    "dlq": "list, show and redrive dead letters",
    "replay": "history through the same code: published signals again, or computed anew",
    "archive": "raw topics and signals to Parquet",
    "bench": "measure this machine: the engine against its peers, the stage step by step",
    "classify": "a text, a file or stdin, answers to stdout; no Kafka",
    "explain": "how the model comes to its answer on one text, pass by pass",
    "train": "a model of your own from labelled texts; no Kafka",
    "teach": "a teacher for `train --teacher`: a whole encoder on labelled texts; no Kafka",
    "invent": "invented labelled texts, to read or to train on",
    "evaluate": "accuracy against cost of every exit policy, on your own texts",
    "calibrate": "choose an exit threshold that loses at most a stated share of texts, with a certificate",
    "config": "show, check or document the settings",
    "completion": "completion of commands and options for bash or zsh",
}
"""Command -> one line of help, in the order in which a new user needs them."""

_INTERRUPTED, _BROKEN_PIPE = 130, 141

# A disk that is full, read-only, broken or not accessible: the operator must fix it; the code is not at fault.
_STORAGE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO})


class Command(Protocol):
    """Interface of a module in stream.commands; its docstring is its help text."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Run the command; return the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `earlybird` command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # ASCII and Latin-1 lack some signs of ours and of texts
    try:
        with _interruptible():
            status = _dispatch(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader closed the pipe (`| head`). Python would report it again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (StreamError, EngineError) as error:
        print(f"earlybird: {escaped_lines(str(error))}", file=sys.stderr)
        if argv is None:  # a process of its own, in which an engine thread may still compute
            from earlybird.stream.observability.watchdog import leave

            leave(2)
        return 2
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"earlybird: {place}{os.strerror(error.errno)}; what was finished before stays as it is", file=sys.stderr)
        return 2
    return status


@contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for a SIGINT, even one lost in a Kafka callback.

    A SIGINT during a callback of the Kafka client is lost in its C code, which then fails with a SystemError.
    """
    came: list[int] = []

    def interrupt(number: int, _frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # for example ignored, as in a background job
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except SystemError:
        if not came:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, before)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    name, rest = arguments[0], arguments[1:]
    if name in ("-V", "--version"):
        print(f"earlybird {extras.version()}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else "`earlybird --help` lists the commands"
        print(f"earlybird: no command {name!r}; {hint}", file=sys.stderr)
        return 2
    try:
        command = cast(Command, importlib.import_module(f"earlybird.stream.commands.{name}"))
        return _call(name, command, rest)
    except ModuleNotFoundError as error:
        print(f"earlybird: {_missing(name, error)}", file=sys.stderr)
        return 2


def _call(name: str, command: Command, arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog=f"earlybird {name}",
        description=command.__doc__ or COMMANDS[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return command.run(parser.parse_args(arguments))


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "usage: earlybird COMMAND [OPTION ...]",
            "",
            "News and tweets in, sentiment signals out the moment each text exits.",
            "",
            *lines,
            "",
            "`earlybird COMMAND --help` explains a command, `earlybird --version` names the release.",
        ]
    )


def _missing(name: str, error: ModuleNotFoundError) -> str:
    """Say which extra to install; re-raise for a module that no extra has.

    Such a module, like one of our own, is a bug that must stay visible.
    """
    module = (error.name or "").partition(".")[0]
    for extra, modules in extras.MODULES_BY_EXTRA.items():
        if module in modules:
            return f"`earlybird {name}` needs {module}: {extras.install_hint(extra)}"
    raise error


if __name__ == "__main__":
    sys.exit(main())
