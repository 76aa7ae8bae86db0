"""Model interface required by runners."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from earlybird.engine.exits.policy import Heads


class ModelSizes(Protocol):
    """Model sizes required by runners."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def layers(self) -> int: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def n_labels(self) -> int: ...


class LayeredModel(Protocol):
    """A model of one shared layer over token-packed states.

    The T tokens of S texts lie end to end, without padding.

    Letters: T tokens over all texts, S texts, H hidden size, C classes; `lengths` are the S token counts, in order.
    """

    @property
    def config(self) -> ModelSizes: ...
    @property
    def dtype(self) -> torch.dtype: ...

    def embed(self, token_ids: Tensor, lengths: Sequence[int]) -> Tensor:
        """Compute the states before the first pass: (T,) int64 -> (T, H)."""

    def advance(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Tensor:
        """Run one pass: (T, H) -> (T, H).

        `depths` counts each text's passes from 1, including this one, and never rises from one text to the next, so
        that the texts of one depth are one block of rows.
        """

    def classify(self, hidden: Tensor, lengths: Sequence[int], depths: Sequence[int]) -> Heads:
        """Compute the heads of texts after `depths` passes.

        They are float32, or float64 for a float64 model.
        """
