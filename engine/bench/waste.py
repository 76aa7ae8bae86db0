"""What a schedule computes for each token that needs it: counted, so the same on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from earlybird.engine.bench.workload import Text


@dataclass(frozen=True, slots=True)
class Waste:
    """Tokens taken through a layer, for each one that is part of a text still undecided; 1.0 is no waste.

    `barrel`: nobody leaves a batch before its last text; nothing is padded. `padding`: every text leaves on its own but
    is as long as the longest of its batch. `both`: the padded batch that leaves as one.
    """

    barrel: float
    padding: float
    both: float


def waste(texts: Sequence[Text], batch: int) -> Waste:
    """For batches of `batch` in the order given. Our slots are 1.0 by construction."""
    waiting, needed, barrel, padding, both = iter(texts), 0, 0, 0, 0
    while group := list(islice(waiting, batch)):
        longest = max(len(text.ids) for text in group)
        deepest = max(text.depth for text in group)
        needed += sum(len(text.ids) * text.depth for text in group)
        barrel += sum(len(text.ids) for text in group) * deepest
        padding += longest * sum(text.depth for text in group)
        both += longest * deepest * len(group)
    return Waste(barrel / needed, padding / needed, both / needed)
