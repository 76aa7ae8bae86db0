"""Lines that a person typed, from sending to the answer."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from earlybird.stream.monitor.passes import LONGEST_TEXT
from earlybird.stream.monitor.slots import SlotBoard
from earlybird.stream.monitor.tape import ARROWS, COLOURS, Kind, Row, duration
from earlybird.stream.observability.escape import plain

_KEPT = 3
_TEXT_CELLS = (20, 48)  # least and most cells of a line's text beside its state, which comes first on a narrow screen
HINT = "Ctrl-C ends; or type a headline and press Enter: Norvex cuts outlook $NRVX"


@dataclass(slots=True)
class Asked:
    """One typed line, and what is known of it."""

    item_key: str
    text: str  # as the slots show it
    state: Text
    answered: bool = False


class Conversation:
    """The last typed lines with their states. Not thread-safe."""

    def __init__(self) -> None:
        self._asked: deque[Asked] = deque(maxlen=_KEPT)

    @property
    def texts(self) -> frozenset[str]:
        """Texts of these lines as the slots show them."""
        return frozenset(each.text for each in self._asked)

    def sent(self, item_key: str, text: str) -> None:
        """Note a line that was sent."""
        self._asked.append(Asked(item_key, plain(text, LONGEST_TEXT), Text("sent", "dim")))

    def follow(self, board: SlotBoard) -> None:
        """Note where unanswered lines are."""
        at = {place.text: place for place in board.places if not place.free}
        for each in self._asked:
            if not each.answered and (place := at.get(each.text)) is not None:
                each.state = Text(f"in a slot, at layer {place.layer} of {place.layers}", "yellow")

    def take(self, rows: Iterable[Row]) -> None:
        """Note the answers among these outcomes."""
        keys = {each.item_key: each for each in self._asked}
        for row in rows:
            each = keys.get(row.item_key)
            if each is not None and row.kind is not Kind.RETRACTION:  # a dead letter's item is retracted as well
                each.state, each.answered = answer(row), True

    def lines(self, width: int) -> list[Text]:
        """Draw the lines, oldest first."""
        return [_line(each, width) for each in self._asked]


def answer(row: Row) -> Text:
    """Say in words what came of a text."""
    if row.label is None:
        return Text(f"! dead letter: {row.reason.replace('_', ' ')}", "yellow")
    how = f"left at layer {row.exit_layer} of {row.max_layers}" if row.computed else "a duplicate"
    text = Text(f"{ARROWS[row.label]} {row.label.value} {row.confidence:.0%}", f"bold {COLOURS[row.label]}")
    return text.append(f"  {how}, after {duration(row.age_us)}", "default")


def _line(asked: Asked, width: int) -> Text:
    said = Text(asked.text, "bold cyan")
    least, most = _TEXT_CELLS
    said.truncate(min(most, max(least, width - asked.state.cell_len - 4)), overflow="ellipsis")
    line = Text("» ", "cyan", no_wrap=True)
    line.append_text(said).append("  ").append_text(asked.state)
    line.truncate(width, overflow="ellipsis")
    return line


def prompt(typed: str, width: int) -> Text:
    """Draw the line being typed, its end visible; the hint while it is empty."""
    line = Text("> ", "bold", no_wrap=True)
    if not typed:
        line.append("▏", "cyan").append(HINT, "dim")
        line.truncate(width, overflow="ellipsis")
        return line
    shown = "".join(char if char.isprintable() else " " for char in typed[-width:])
    while cell_len(shown) > max(1, width - 4):
        shown = shown[1:]
    return line.append(shown).append("▏", "cyan")
