"""PF-BERxiT's flexible exits: the outputs of neighbouring layers are similar often enough."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import ClassifierOutput, Decision, State, code, nearest
from earlybird.schemas.signal import ExitReason

Score = Literal["ce", "reversed", "symmetric", "kl"]


@dataclass(frozen=True, slots=True)
class Similarity:
    """Exit when this output and earlier ones score strictly under `threshold`.

    Scores are s(i, j) between this output p_i and an earlier one p_j.

    version 1  s(i, i-1) < threshold adds 1 to a counter, else it falls to 0; exit at `count` (equation 5).
    version 2  as 1, but all of s(i, i-1) ... s(i, i-m) must be under it (m = `previous`); at m = 1 it is version 1.
    version 3  at least `count` of the m scores of this layer are under it, in any order.

    `score` ce: -sum p_i log p_j (equation 6); reversed: -sum p_j log p_i (7); symmetric: their sum (8). These are cross
    entropies, so a score is small only where the outputs are sure, too. kl (our addition): symmetric Kullback-Leibler
    divergence, 0 for equal outputs. No decision before `previous` earlier outputs exist.
    """

    version: int
    threshold: float
    count: int
    previous: int = 1
    score: Score = "ce"

    FAMILY: ClassVar[str] = "similarity"
    needs_certainty: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.version not in (1, 2, 3):
            raise ConfigError(f"similarity: version 1, 2 or 3 required, was {self.version}")
        if not self.threshold > 0.0:
            raise ConfigError(f"similarity: a threshold above 0 required, was {self.threshold}")
        if self.count < 1 or self.previous < 1:
            raise ConfigError(
                f"similarity: count and previous of at least 1 required, was {self.count}, {self.previous}"
            )
        if self.version == 1 and self.previous != 1:
            raise ConfigError(f"similarity: version 1 looks at previous=1 layer, was {self.previous}")
        if self.version == 3 and self.count > self.previous:
            raise ConfigError(f"similarity: a count of at most previous={self.previous} required, was {self.count}")

    @property
    def spec(self) -> str:
        previous = "" if self.previous == 1 else f",previous={self.previous}"
        score = "" if self.score == "ce" else f",score={self.score}"
        threshold = f"{float(self.threshold)!r}"
        return f"similarity:version={self.version},threshold={threshold},count={self.count}{previous}{score}"

    @property
    def earliest(self) -> int:
        return self.previous + (1 if self.version == 3 else self.count)

    def initial_state(self, slots: int, like: Tensor) -> State:
        """Return the zeroed state: (log-probabilities of the last m outputs, the counter).

        The log-probabilities are (S, m, C), newest first.
        """
        return like.new_zeros(slots, self.previous, like.shape[-1]), like.new_zeros(slots, dtype=torch.int64)

    def decide(self, output: ClassifierOutput, depth: Tensor, state: State) -> Decision:
        earlier, counter = state
        similar = self._scores(output, earlier) < self.threshold  # (S, m)
        full = depth > self.previous  # zeros of a new row are no distribution, so they are never compared
        if self.version == 3:
            leaving = full & (similar.sum(dim=1) >= self.count)
        else:
            counter = torch.where(full & similar.all(dim=1), counter + 1, 0)
            leaving = counter >= self.count
        earlier = torch.cat([output.log_probs[:, None], earlier], dim=1)[:, : self.previous]
        return Decision(leaving, torch.full_like(depth, code(ExitReason.SIMILARITY)), (earlier, counter))

    def distance_to_flip(self, output: ClassifierOutput, depth: Tensor, state: State) -> Tensor:
        distances = (self._scores(output, state[0]) - self.threshold).abs()
        return torch.where(depth > self.previous, nearest(*distances.unbind(dim=1)), torch.inf)

    def _scores(self, output: ClassifierOutput, earlier: Tensor) -> Tensor:
        """Return the scores s(i, i-1) ... s(i, i-m), (S, m).

        They are computed from log-probabilities (S, C) and (S, m, C).
        """
        now = output.log_probs[:, None]
        if self.score == "ce":
            return _cross_entropy(now, earlier)
        if self.score == "reversed":
            return _cross_entropy(earlier, now)
        if self.score == "symmetric":
            return _cross_entropy(now, earlier) + _cross_entropy(earlier, now)
        return ((now.exp() - earlier.exp()) * (now - earlier)).sum(dim=-1)


def _cross_entropy(of: Tensor, under: Tensor) -> Tensor:
    """Return -sum_k p(k) log q(k) over the last dimension, from log-probabilities."""
    return -(of.exp() * under).sum(dim=-1)
