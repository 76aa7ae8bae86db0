"""Live tape: one line per outcome, with its sentiment, exit depth and age.

time      symbol sentiment         sure exit           age  headline
13:31:02  NRVX   ▲ +0.81 ····│███·  90% ▰▰▱▱▱▱▱▱    4.1 ms  Norvex Q1 adjusted EPS $1.42 beats $1.19 expected
"""

import json
import time
from dataclasses import dataclass
from enum import StrEnum

from rich.text import Text

from earlybird.schemas.framing import unframed
from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Label, Signal, SignalAction
from earlybird.stream.observability.escape import plain

BAR_CELLS = 4  # cells on each side of the middle
_WIDE = 96  # columns needed to show the bar


class Kind(StrEnum):
    """Kind of outcome of a raw record."""

    SIGNAL = "signal"
    DUPLICATE = "duplicate"
    CORRECTION = "correction"
    RETRACTION = "retraction"
    REJECTION = "rejection"


_MARKS = {Kind.SIGNAL: "", Kind.DUPLICATE: "≡ ", Kind.CORRECTION: "✎ ", Kind.RETRACTION: "", Kind.REJECTION: ""}
COLOURS = {Label.POSITIVE: "green", Label.NEGATIVE: "red", Label.NEUTRAL: "bright_black"}
ARROWS = {Label.POSITIVE: "▲", Label.NEGATIVE: "▼", Label.NEUTRAL: "•"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the tape.

    `age_us` is the latency of the text; `headline` is empty if it is not known.
    """

    at_us: int
    kind: Kind
    age_us: int
    symbol: str = ""
    headline: str = ""
    label: Label | None = None
    score: float = 0.0
    confidence: float = 0.0
    exit_layer: int = 0
    max_layers: int = 0
    computed: bool = False  # false for duplicates and rows without a result
    reason: str = ""  # of a dead letter
    item_key: str = ""

    @classmethod
    def of_signal(cls, signal: Signal, *, at_us: int, age_us: int, headline: str = "") -> "Row":
        """Return the row of a signal or a retraction."""
        symbol = signal.primary_symbol or (signal.symbols[0].symbol if signal.symbols else "")
        if signal.label is None or signal.exit is None or signal.score is None or signal.confidence is None:
            return cls(at_us, Kind.RETRACTION, age_us, symbol, headline, item_key=signal.item_key)
        hit = signal.novelty is not None and signal.novelty.cache_hit
        kind = Kind.DUPLICATE if hit else Kind.SIGNAL
        return cls(
            at_us, Kind.CORRECTION if signal.action is SignalAction.CORRECT else kind, age_us, symbol, headline,
            signal.label, signal.score, signal.confidence, signal.exit.layer, signal.exit.max_layers, computed=not hit,
            item_key=signal.item_key,
        )  # fmt: skip

    @classmethod
    def of_rejection(cls, rejection: Rejection, *, at_us: int, age_us: int, headline: str = "") -> "Row":
        """Return the row of a dead letter."""
        reason, item_key = rejection.reason.value, rejection.item_key or ""
        return cls(at_us, Kind.REJECTION, age_us, headline=headline, reason=reason, item_key=item_key)


def line(row: Row, width: int) -> Text:
    """Render the row in at most `width` columns."""
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(time.strftime("%H:%M:%S", time.gmtime(row.at_us / 1e6)), "bright_black")
    text.append(f"  {plain(row.symbol)[:6]:<6} ", "bold")
    if row.label is None:
        text.append_text(_without_result(row, width))
    else:
        text.append_text(_result(row, width))
    text.append(f" {duration(row.age_us):>8}  ", "cyan")
    text.append(_MARKS[row.kind], "magenta")
    style = {Kind.RETRACTION: "strike bright_black", Kind.REJECTION: "bright_black", Kind.DUPLICATE: "bright_black"}
    text.append(plain(row.headline), style.get(row.kind, "default"))
    text.truncate(width, overflow="ellipsis")
    return text


def heading(width: int) -> Text:
    """Return the names of the columns."""
    sentiment = f"{'sentiment':<17}" if width >= _WIDE else f"{'score':<8}"
    return Text(f"{'time':<8}  {'symbol':<6} {sentiment} {'sure':>4} {'exit':<9} {'age':>8}  headline"[:width], "dim")


def depth(row: Row) -> str:
    """Draw the exit layer: ▰ for each pass that was needed."""
    return "▰" * row.exit_layer + "▱" * (row.max_layers - row.exit_layer)


def bar(score: float) -> str:
    """Draw a score from -1 to +1 as a bar in half cells, 0 centred."""
    halves = round(abs(score) * BAR_CELLS * 2)
    full, half = divmod(halves, 2)
    if score < 0:
        return ("▐" * half + "█" * full).rjust(BAR_CELLS, "·") + "│" + "·" * BAR_CELLS
    return "·" * BAR_CELLS + "│" + ("█" * full + "▌" * half).ljust(BAR_CELLS, "·")


def headline(value: bytes | None) -> str:
    """Return the record's headline or text, else the beginning of its bytes."""
    try:
        fields = json.loads(unframed(value or b"null"))
    except (ValueError, RecursionError):  # a raw topic may hold anything, and this is only a display
        fields = None
    if isinstance(fields, dict):
        return plain(str(fields.get("headline") or fields.get("text") or ""))
    return "" if value is None else plain(value[:80].decode("utf-8", "replace"))


def legend(width: int) -> Text:
    """Return the meaning of the marks, in rows and in the status line."""
    text = Text("≡ duplicate  ✎ correction  ✕ retraction  ! dead letter  ▰ layer used", "dim")
    text.truncate(width, overflow="ellipsis")
    return text


def _result(row: Row, width: int) -> Text:
    assert row.label is not None
    colour = COLOURS[row.label]
    text = Text()
    text.append(f"{ARROWS[row.label]} {row.score:+.2f} ", colour)
    if width >= _WIDE:
        text.append(bar(row.score), colour)
    text.append(f" {row.confidence:>4.0%} ", "default" if row.computed else "bright_black")
    text.append(f"{depth(row) if row.computed else 'duplicate':<9}", "yellow" if row.computed else "magenta")
    return text


def _without_result(row: Row, width: int) -> Text:
    cells = 32 if width >= _WIDE else 23  # width of sentiment, confidence and depth together
    if row.kind is Kind.RETRACTION:
        return Text(f"{'✕ retracted':<{cells}}", "magenta")
    return Text(f"{'! ' + row.reason.replace('_', ' '):<{cells}}", "yellow")


def duration(time_us: int) -> str:
    """Write a latency in its unit."""
    if time_us < 100_000:
        return f"{time_us / 1000:.1f} ms"
    if time_us < 1_000_000:
        return f"{time_us / 1000:.0f} ms"
    return f"{time_us / 1e6:.1f} s" if time_us < 100_000_000 else "long ago"
