"""Picture of an engine's slots: texts that enter, climb layer by layer, and leave.

1 ▰▰▱ at layer 2          Norvex raises full-year revenue outlook to $4.2 bln
2 ▰▱▱ ▲ positive  97% out Solwyn Solar sales beat forecasts
3     free
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rich.text import Text

from earlybird.schemas.signal import Label
from earlybird.stream.monitor.passes import InSlot, Pass, Told
from earlybird.stream.monitor.tape import ARROWS, COLOURS
from earlybird.stream.observability.escape import plain

_DEPTH_CELLS = 12  # deeper models are drawn to scale
_STATE = 17  # cells of the state's words


@dataclass(frozen=True, slots=True)
class Place:
    """One slot with its text, or its last one; `layer` 0: never used."""

    ticket: int = -1
    layer: int = 0
    layers: int = 0
    text: str = ""
    entered: bool = False  # in the last pass
    left: bool = False  # in the last pass
    free: bool = True
    label: Label | None = None
    confidence: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all engine threads."""

    waiting: int = 0
    exited: int = 0
    passes: int = 0
    computing_s: float = 0.0


class SlotBoard:
    """State of all slots, pass by pass. Not thread-safe.

    Texts lie end to end in the engine; here each keeps its place until it leaves, and the next one takes a free place.
    """

    def __init__(self) -> None:
        self._places: dict[str, list[Place]] = {}
        self._last: dict[str, Pass] = {}

    def add(self, passes: Iterable[Pass]) -> None:
        """Show these passes, the newest last."""
        for each in passes:
            self._last[each.thread] = each
            places = self._places.setdefault(each.thread, [Place()] * each.slots)
            self._places[each.thread] = _after(places, each)

    def copy(self) -> "SlotBoard":
        """Return the state of now, which later passes do not change."""
        found = SlotBoard()
        found._places, found._last = dict(self._places), dict(self._last)
        return found

    @property
    def places(self) -> list[Place]:
        """All slots, thread by thread."""
        return [place for thread in sorted(self._places) for place in self._places[thread]]

    @property
    def totals(self) -> Totals:
        """Sums over all threads."""
        last = self._last.values()
        return Totals(
            waiting=max((each.waiting for each in last), default=0),
            exited=sum(each.left for each in last),
            passes=sum(each.passes for each in last),
            computing_s=sum(each.computing_s for each in last),
        )

    @property
    def liveliness(self) -> tuple[int, ...]:
        """Orders states by how much they show, for a still picture."""
        places = self.places
        layers = {place.layer for place in places if not place.free}
        left = sum(place.left for place in places)
        return (min(len(layers), 3) + min(left, 2), sum(not place.free for place in places) + left)


def _after(places: Sequence[Place], told: Pass) -> list[Place]:
    """Return the places after a pass.

    A text that neither stays nor leaves left in a pass that was not told.
    """
    here = {text.ticket for text in told.texts}
    found = [replace(place, entered=False, left=False, free=place.free or place.ticket not in here) for place in places]
    at = {place.ticket: number for number, place in enumerate(found) if not place.free}
    free = sorted(
        (number for number, place in enumerate(found) if place.free), key=lambda number: found[number].layer > 0
    )
    for text in told.texts:
        number = at.get(text.ticket)
        if number is None and not free:
            continue  # more texts than slots: passes were not told
        new = number is None
        found[free.pop(0) if number is None else number] = _place(text, told.layers, new)
    return found


def _place(text: Told, layers: int, new: bool) -> Place:
    if isinstance(text, InSlot):
        return Place(text.ticket, text.depth, layers, text.text, entered=new, free=False)
    label, sure = Label(text.label), text.confidence
    return Place(text.ticket, text.layer, layers, text.text, left=True, label=label, confidence=sure)


def slot_lines(board: SlotBoard, width: int, rows: int, own: frozenset[str] = frozenset()) -> list[Text]:
    """Draw heading, at most `rows` slots, and counters; `own` texts stand out."""
    places = board.places
    lines = [_heading()]
    lines += [_slot(number, place, own) for number, place in enumerate(places[:rows], 1)]
    if len(places) > rows:
        lines[-1] = Text(f"   and {len(places) - rows + 1} slots more", "bright_black")
    lines.append(_counters(board.totals, sum(not place.free for place in places), len(places)))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _heading() -> Text:
    text = Text("slots", "bold", no_wrap=True)
    text.append("  a text enters, climbs a layer per pass, and leaves when it is sure", "dim")
    return text


def _slot(number: int, place: Place, own: frozenset[str]) -> Text:
    text = Text(f"{number:>2} ", "bright_black", no_wrap=True)
    if not place.layer:
        return text.append(f"{'':<{_DEPTH_CELLS}} free", "bright_black")
    said, mine = plain(place.text), "bold cyan" if place.text in own else ""
    if place.free and not place.left:
        text.append(depth(place), "bright_black")
        return text.append(f" {'free, before:':<{_STATE}} {said}", mine or "bright_black")
    text.append(depth(place), "yellow")
    if place.left:
        assert place.label is not None, "a text that left has a label. This is a bug."
        answer = f"{ARROWS[place.label]} {place.label.value} {place.confidence:.0%}"
        text.append(f" {answer:<{_STATE}} ", f"bold {COLOURS[place.label]}")
    else:
        words = "enters" if place.entered else f"at layer {place.layer} of {place.layers}"
        text.append(f" {words:<{_STATE}} ", "bold" if place.entered else "default")
    return text.append(said, mine or "default")


def depth(place: Place) -> str:
    """Draw the passes made, of all that the model has, in about 12 cells."""
    per_layer = max(1, _DEPTH_CELLS // place.layers)
    cells = min(place.layers * per_layer, _DEPTH_CELLS)
    full = max(1, cells * place.layer // place.layers)
    return "▰" * full + "▱" * (cells - full)


def _counters(totals: Totals, in_use: int, slots: int) -> Text:
    text = Text(no_wrap=True)
    text.append(f"{totals.waiting} waiting", "yellow" if totals.waiting else "default")
    text.append(f" · {in_use} of {slots} slots in use · {totals.exited} answered · ")
    text.append(f"{totals.passes} passes, no padding", "cyan")
    return text
