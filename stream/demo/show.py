"""The demo on a screen: playback, slots, and a person who types."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self

from rich.console import Console
from rich.text import Text

from earlybird.stream.demo.playback import Playback
from earlybird.stream.monitor.display import Display, View
from earlybird.stream.monitor.keyboard import Keyboard
from earlybird.stream.monitor.line_editor import LineEditor
from earlybird.stream.monitor.passes import Pass
from earlybird.stream.monitor.schedules import schedule_lines
from earlybird.stream.monitor.summary import TapeTally
from earlybird.stream.monitor.tape import Row
from earlybird.stream.publishing.one_text import one_text

SOURCE = "you"
_TOPIC = "news.raw"
_ROWS_OF_STILL = 15  # that a still picture wants to show


class Watched(Protocol):
    """The worker's slots; see stream.demo.channel.WorkerChannel."""

    @property
    def comparison(self) -> dict[str, Any] | None: ...

    def passes(self) -> list[Pass]: ...

    def compare(self) -> None: ...


class Show:
    """One run of the demo, as a context manager. Not thread-safe.

    `still` is the liveliest moment, for a picture. `alive` raises if the stage has died.
    """

    def __init__(
        self,
        playback: Playback,
        slots: Watched,
        console: Console,
        alive: Callable[[], None],
        *,
        pass_ms: float = 0.0,
        keyboard: Keyboard,
        hint: str = "",
    ) -> None:
        self._playback, self._slots, self._alive, self._pass_ms = playback, slots, alive, pass_ms
        self._display, self._keyboard, self._editor = Display(console), keyboard, LineEditor()
        self._display.view.hint = hint
        self._since_s = time.monotonic()
        self.tally, self.seconds = TapeTally(), 0.0
        self.still: View | None = None
        self.slowed = pass_ms > 0

    def __enter__(self) -> Self:
        self._display.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._display.__exit__()

    def play(self, timeout_s: float) -> None:
        """Play the feed to its end; see Playback.play."""
        for rows in self._playback.play(timeout_s, self._alive):
            for row in rows:
                self.tally.add(row)
            self.tally.texts = self._playback.answered
            self.seconds = time.monotonic() - self._since_s
            self._turn(rows)

    def compare(self) -> list[Text]:
        """Compare the texts' schedules in the worker and return the comparison in words."""
        self._slots.compare()
        view = self._display.view
        view.summary = [Text("the same texts once more, at full speed: in slots and in padded batches ...", "dim")]
        self._display.draw(changed=True)
        while self._slots.comparison is None:
            self._turn(self._playback.turn())
            self._alive()
        view.summary = schedule_lines(self._slots.comparison)
        self._display.draw(changed=True)
        return list(view.summary)

    def stay(self) -> None:
        """Go on until Ctrl-C or Ctrl-D."""
        try:
            while True:
                self._turn(self._playback.turn())
                self._alive()
        except KeyboardInterrupt:
            return

    def _turn(self, rows: Sequence[Row]) -> None:
        view, shown = self._display.view, [*rows, *self._playback.others()]
        self._display.add(shown)
        passes = self._slots.passes()
        for each in passes:
            view.board.add([each])
            view.conversation.follow(view.board)
            self._keep_still()
        view.conversation.take(shown)
        view.status = self.tally.status(self.seconds, slowed=self.slowed)
        view.note = self._note()
        typed = self._keyboard.read()
        for line in self._editor.feed(typed):
            outgoing = one_text(line, _TOPIC, SOURCE)
            self._playback.send(outgoing)
            view.conversation.sent((outgoing.key or b"").decode(), line)
        view.typed = self._editor.text if self._keyboard.on else None
        self._display.draw(changed=bool(shown or passes or typed))

    def _note(self) -> str:
        if not self._pass_ms:
            return ""
        totals = self._display.view.board.totals
        needed = f", the processor needs {1e3 * totals.computing_s / totals.passes:.1f} ms" if totals.passes else ""
        return f"slowed down to be watched: a pass takes {self._pass_ms:g} ms{needed}"

    def _keep_still(self) -> None:
        view = self._display.view
        if len(view.rows) < _ROWS_OF_STILL:
            return
        if self.still is None or view.board.liveliness > self.still.board.liveliness:
            rows = list(view.rows)[-_ROWS_OF_STILL:]
            self.still = View(rows, view.status, view.note, view.board.copy())
