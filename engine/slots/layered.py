"""What a runner needs of a model."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from earlybird.engine.exits.policy import Heads


class Geometry(Protocol):
    """The sizes a runner must know."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def n_labels(self) -> int: ...


class Layered(Protocol):
    """A model of one shared layer, on token-packed states: T tokens of S texts, one after the other, no padding.

    Letters: T tokens over all texts, S texts, H hidden size, C classes; `lengths` are the S token counts, in order.
    """

    @property
    def config(self) -> Geometry: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def embed(self, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """(T,) int64 -> (T, H)"""

    def advance(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        """One pass: (T, H) -> (T, H). `depths` counts each text's passes from 1, this one included, and never rises
        from one text to the next: the texts of one depth are one block of rows."""

    def classify(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Heads:
        """Heads of texts that have made `depths` passes; float32, or float64 of such a model."""
