"""The demo as a person has it: in a terminal of its own, typing, resizing, ending; and `say` beside it."""

import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from project import ROOT

CODES = re.compile(rb"\x1b(?:\[[0-9;?]*[a-zA-Z]|[()][A-Z0-9]|[=>])")
PATIENCE_S = 150.0


class Terminal:
    """A pseudo-terminal with a command in it."""

    def __init__(self, words: list[str], folder: Path, columns: int = 110, rows: int = 34) -> None:
        self.ours, self.theirs = pty.openpty()
        self.seen = b""
        self.size(columns, rows)
        self.before = termios.tcgetattr(self.theirs)
        names = {"TERM": "xterm-256color", "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("EARLYBIRD_", "COLUMNS", "LINES"))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_TERMINAL, *words],
            stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, env=environment | names, cwd=ROOT,
            start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs: closing the terminal hangs it up."""
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)

    def size(self, columns: int, rows: int) -> None:
        """Resize, as a person does with the mouse."""
        self.seen = b""
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press these keys; a terminal takes only so many at once."""
        self.seen, typed = b"", text.encode()
        while typed:
            select.select([self.ours], [self.ours], [], PATIENCE_S)
            self.read(0)
            if select.select([], [self.ours], [], 0)[1]:
                typed = typed[os.write(self.ours, typed[:256]) :]

    def read(self, timeout_s: float) -> bool:
        """Read what has come; return whether something may still come."""
        while select.select([self.ours], [], [], timeout_s)[0]:
            try:
                self.seen += os.read(self.ours, 65_536)
            except OSError:
                return False
            timeout_s = 0
        return self.process.poll() is None

    @property
    def shown(self) -> str:
        """What has come since keys were last pressed, free of control codes."""
        return CODES.sub(b"", self.seen).decode(errors="replace")

    def until(self, pattern: str) -> None:
        """Wait for this text."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not re.search(pattern, self.shown):
            assert (self.read(1.0) or self.read(0)) and time.monotonic() < deadline_s, self.shown[-3000:]

    def end(self) -> int:
        """Wait for the command's end; return its status."""
        while self.process.poll() is None:
            self.read(0.1)
        self.read(0)
        return self.process.returncode


# The terminal becomes the command's own, and Ctrl-C interrupts it even where the tests run in the background.
IN_TERMINAL = """
import fcntl, runpy, signal, sys, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.argv[0] = "earlybird"
runpy.run_module("earlybird.stream.cli", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for a unix socket in it."""
    path = Path(tempfile.mkdtemp(prefix="eb-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def opened(folder: Path) -> Iterator[Callable[..., Terminal]]:
    """Opens terminals that are closed at the end."""
    with ExitStack() as stack:
        yield lambda *words, **size: stack.enter_context(Terminal(list(words), folder, **size))


def say(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EARLYBIRD_")}
    return subprocess.run(
        [sys.executable, "-m", "earlybird.stream.cli", "say", *words],
        env=environment | {"TMPDIR": str(folder)}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_person_types_headlines_and_sees_them_answered(opened: Callable[..., Terminal], folder: Path) -> None:
    """Odd keys, a whole article, two lines at once, a resized window; another terminal; Ctrl-C; nothing left behind."""
    terminal = opened("demo", "--seconds", "2", "--pass-ms", "30")
    terminal.until("type a headline and press Enter")
    terminal.until("Kafka at 127.0.0.1:\\d+; in another terminal: earlybird say")
    terminal.type("\r   \r\x1b[A\x00\x07\t\r")
    terminal.type("Norvex cuts outlook as orders \x7f\x7f fall $NRVX\rHaligon Energy lifts outlook 🚀\r")
    terminal.until("» Norvex cuts outlook as order fall \\$NRVX  . (positive|neutral|negative) \\d+%  left at layer")
    terminal.until("» Haligon Energy lifts outlook 🚀  . (positive|neutral|negative) \\d+%  left at layer")
    terminal.until("Padded batches compute [0-9.]+ times as much; their texts wait [0-9.]+ times as long\\.")
    terminal.size(60, 16)
    terminal.until("slots  a text enters, climbs a layer per pass, and leaves w…")
    terminal.type("A whole article. " * 300 + "\r")
    terminal.until("» A whole article[^…]*…  . (positive|neutral|negative)")
    terminal.type("Norvex cuts outlook as order fall $NRVX\r")
    terminal.until("» Norvex cuts outlook[^…]*…  . negative \\d+%  a duplicate")
    said = say(folder, "Norvex", "cuts outlook", "--symbol", "nrvx", "--timeout", "60")
    assert (said.returncode, len(said.stdout.splitlines())) == (0, 1), said.stderr
    assert re.fullmatch(r"▼ negative +\d+%  layer \d of \d  [0-9.]+ m?s  NRVX  Norvex cuts outlook\n", said.stdout)
    assert said.stderr.startswith("to the running demo at 127.0.0.1:")
    letter = say(folder, "\u200b", "--timeout", "60")
    assert letter.returncode == 1 and letter.stdout.startswith("! dead letter: empty text")
    terminal.type("\x03")
    assert terminal.end() == 0
    assert "where texts left the model" in terminal.shown
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    assert terminal.seen.count(b"\x1b[?1049l") == 1  # the screen of before is back
    stopped = say(folder, "Norvex cuts outlook", "--timeout", "1")
    assert stopped.returncode == 2
    assert "no Kafka at 127.0.0.1:9092" in stopped.stderr and "no `earlybird demo` runs here" in stopped.stderr
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "status"), [("\x03", 130), ("\x04", 130), (None, 143)], ids=["ctrl-c", "ctrl-d", "sigterm"]
)
def test_an_end_in_the_middle_leaves_the_terminal_as_it_was(
    opened: Callable[..., Terminal], folder: Path, keys: str | None, status: int
) -> None:
    """While the feed plays; no server and no worker stays behind."""
    terminal = opened("demo", "--seconds", "600")
    terminal.until("[1-9]\\d* answered ·")
    if keys is None:
        terminal.process.terminate()
    else:
        terminal.type(f"half a line{keys}")
    assert terminal.end() == status
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    assert b"\x1b[?1049l" in terminal.seen and b"\x1b[?25h" in terminal.seen
    assert b"Traceback" not in terminal.seen
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("part", ["an embedded Kafka", "an embedded Redis", "a worker"])
def test_an_interrupt_while_a_part_starts_is_quiet(opened: Callable[..., Terminal], folder: Path, part: str) -> None:
    """No traceback, of this process or of a server's; nothing left behind."""
    terminal = opened("demo")
    terminal.until(f"starting {part}")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert not re.search("Traceback|Error", terminal.shown), terminal.shown
    assert termios.tcgetattr(terminal.theirs) == terminal.before
    assert list(folder.iterdir()) == []


def test_once_on_a_terminal_ends_by_itself_after_its_summary(opened: Callable[..., Terminal]) -> None:
    """What `make demo` runs: slowed down and saying so, the comparison at the end, nothing to type."""
    terminal = opened("demo", "--once", "--seconds", "2", columns=80, rows=24)
    terminal.until("slowed down to be watched: a pass takes 200 ms, the processor needs [0-9.]+ ms")
    terminal.until("at layer 2 of 3")
    terminal.until("Padded batches compute [0-9.]+ times as much; their texts wait [0-9.]+ times as long\\.")
    assert terminal.end() == 0
    assert b"type a headline" not in terminal.seen
