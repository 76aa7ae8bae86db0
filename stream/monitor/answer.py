"""One readable line for the answer on one text: label, confidence, exit layer, text.

▲ positive  99%  layer 1 of 3  Norvex lifts full-year outlook
"""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from earlybird.schemas.rejection import Rejection
from earlybird.schemas.signal import Label, Signal
from earlybird.stream.monitor.tape import ARROWS, COLOURS, duration
from earlybird.stream.observability.escape import plain


def answer_line(answer: Mapping[str, Any], layers: int, width: int) -> Text:
    """Render an answer of `earlybird classify`, or its error, in at most `width` columns."""
    line = Text(no_wrap=True, overflow="ellipsis")
    if "error" in answer:
        line.append(f"! {plain(answer['error'])}", "yellow")
    else:
        label = Label(answer["label"])
        line.append(f"{ARROWS[label]} {label.value:<8} {answer['confidence']:>4.0%}  ", COLOURS[label])
        line.append(f"layer {answer['exit']['layer']:>{len(str(layers))}} of {layers}  ", "yellow")
        line.append(plain(answer["text"]))
    line.truncate(width, overflow="ellipsis")
    return line


def outcome_line(outcome: Signal | Rejection, text: str, took_s: float, width: int) -> Text:
    """Render what a stage made of a text, in at most `width` columns.

    ▲ positive  99%  layer 1 of 3  18.2 ms  NRVX  Norvex lifts full-year outlook
    """
    line = Text(no_wrap=True, overflow="ellipsis")
    if isinstance(outcome, Rejection):
        line.append(f"! dead letter: {outcome.reason.value.replace('_', ' ')}  {plain(outcome.detail)}", "yellow")
    else:
        assert outcome.label and outcome.exit and outcome.confidence is not None, "a retraction answers no text"
        duplicate = outcome.novelty is not None and outcome.novelty.cache_hit
        how = "duplicate  " if duplicate else f"layer {outcome.exit.layer} of {outcome.exit.max_layers}  "
        line.append(
            f"{ARROWS[outcome.label]} {outcome.label.value:<8} {outcome.confidence:>4.0%}  ", COLOURS[outcome.label]
        )
        line.append(how, "yellow")
        line.append(f"{duration(round(took_s * 1e6))}  ", "cyan")
        line.append("".join(f"{plain(symbol.symbol)} " for symbol in outcome.symbols[:3]), "bold")
        line.append(f"{' ' if outcome.symbols else ''}{plain(text)}")
    line.truncate(width, overflow="ellipsis")
    return line
