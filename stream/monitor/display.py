"""Display of a running stage: slots, tape of outcomes, and typed lines.

A moving screen on a terminal; elsewhere one plain line per outcome, without control codes.
"""

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from earlybird.stream.monitor.asked import Conversation, prompt
from earlybird.stream.monitor.slots import SlotBoard, slot_lines
from earlybird.stream.monitor.tape import Row, heading, legend, line

_KEPT = 500  # rows
_FRAME_S = 1 / 15
_HIGH = 24  # rows of a terminal that has room for explanations


def moving(console: Console) -> bool:
    """Return whether the console can show a moving screen."""
    return console.is_terminal and not console.is_dumb_terminal


@dataclass(slots=True)
class View:
    """What a display shows."""

    rows: Sequence[Row] = ()
    status: Text = field(default_factory=Text)
    note: str = ""  # a sentence about the run, in view all the time
    board: SlotBoard = field(default_factory=SlotBoard)
    summary: Sequence[Text] = ()
    conversation: Conversation = field(default_factory=Conversation)
    typed: str | None = None  # None: nothing can be typed
    hint: str = ""  # what else one can do, above what is typed


class Display:
    """Display of a stage, as a context manager. Not thread-safe."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._rows: deque[Row] = deque(maxlen=_KEPT)
        self.view = View(self._rows)
        self._live: Live | None = None
        self._drawn_s, self._changed, self._size = 0.0, True, console.size

    def add(self, rows: Iterable[Row]) -> None:
        """Show these rows, newest last."""
        for row in rows:
            self._rows.append(row)
            if self._live is None:
                # Output to a file has no width: 200 columns hold whole headlines.
                self.console.print(line(row, 200).plain.rstrip(), markup=False, highlight=False, soft_wrap=True)

    @property
    def moves(self) -> bool:
        """Whether it is a moving screen, and one that is shown."""
        return self._live is not None

    def draw(self, *, changed: bool) -> None:
        """Draw a changed screen anew, at most 15 times a second."""
        self._changed |= changed or self.console.size != self._size
        at_s = time.monotonic()
        if self._live is not None and self._changed and at_s - self._drawn_s >= _FRAME_S:
            self._drawn_s, self._changed, self._size = at_s, False, self.console.size
            self._live.refresh()

    def __enter__(self) -> Self:
        if moving(self.console):
            self._live = Live(_Screen(self.view), console=self.console, auto_refresh=False, screen=True)
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


@dataclass(frozen=True, slots=True)
class _Screen:
    view: View

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield picture(self.view, options.max_width, options.height or console.height)


def picture(view: View, width: int, height: int) -> Group:
    """Draw a view within `width` and `height`; explanations need a high screen."""
    below = [_cut(Text(view.hint, "dim"), width)] if view.hint and height >= _HIGH else []
    if view.typed is not None:
        below += [*view.conversation.lines(width), prompt(view.typed, width)]
    above = [view.status]
    if view.note:
        above.append(Text(view.note, "italic yellow"))
    between = [*view.summary, Text("─" * width, "bright_black"), heading(width)]
    if height >= _HIGH:
        above.append(Text("─" * width, "bright_black"))
        between.insert(len(view.summary) + 1, legend(width))
    room = max(2, height - len(above) - len(between) - len(below) - 2)  # 2: heading and counters of the slots
    slots = min(len(view.board.places), max(1, room * 3 // 5))
    tape = max(1, room - slots)
    lines = [
        *above,
        *slot_lines(view.board, width, slots, view.conversation.texts),
        *between,
        *(line(row, width) for row in list(view.rows)[-tape:]),
    ]
    lines = lines[: max(1, height - len(below))]
    lines += [Text()] * (height - len(below) - len(lines) if below else 0)
    return Group(*(_cut(each, width) for each in lines), *below)


def _cut(text: Text, width: int) -> Text:
    cut = text.copy()  # the next frame may be wider
    cut.truncate(width, overflow="ellipsis")
    return cut
