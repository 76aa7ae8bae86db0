"""One readable line for the answer on one text: label, confidence, exit layer, text.

▲ positive  99%  layer 1 of 3  Norvex lifts full-year outlook
"""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from earlybird.schemas.signal import Label
from earlybird.stream.monitor.tape import ARROWS, COLOURS
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
