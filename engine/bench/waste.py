"""Tokens computed per needed token by a schedule: counted, so equal on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from earlybird.engine.bench.workload import BenchText


@dataclass(frozen=True, slots=True)
class Waste:
    """Tokens computed in a layer per token of an undecided text; 1.0 is no waste.

    `straggler`: no text exits a batch before its last text; nothing is padded. `padding`: every text exits on its own
    but is as long as the longest of its batch. `both`: the padded batch that exits as one.
    """

    straggler: float
    padding: float
    both: float


def waste(texts: Sequence[BenchText], batch: int) -> Waste:
    """Count the waste for batches of `batch` in the given order.

    Our slots have 1.0 by construction.
    """
    waiting, needed, straggler, padding, both = iter(texts), 0, 0, 0, 0
    while group := list(islice(waiting, batch)):
        longest = max(len(text.ids) for text in group)
        deepest = max(text.depth for text in group)
        needed += sum(len(text.ids) * text.depth for text in group)
        straggler += sum(len(text.ids) for text in group) * deepest
        padding += longest * sum(text.depth for text in group)
        both += longest * deepest * len(group)
    return Waste(straggler / needed, padding / needed, both / needed)
