"""Workload: token ids, real headlines' and tweets' lengths, and exit depths.

Every block of BLOCK texts holds the same lengths and the same depths in another order, so rows whose speeds differ a
thousandfold can be given more or fewer blocks and still do the same work per text.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from earlybird.engine.config import ModelConfig
from earlybird.engine.errors import ConfigError
from earlybird.engine.types import Request

BLOCK = 32
MEDIAN, SPREAD = 24.0, math.log(60 / 24) / NormalDist().inv_cdf(0.95)  # headlines: half under 24, 5 % over 60


def _albert(vocab_size: int, hidden_size: int, heads: int, layers: int, positions: int) -> ModelConfig:
    ffn_size = 4 * hidden_size
    return ModelConfig(
        vocab_size,
        128,
        hidden_size,
        heads,
        ffn_size,
        layers,
        positions,
        "norm_then_project",
        "first",
        "gelu_new",
        1e-12,
    )


GEOMETRIES = {
    "mini": _albert(14_000, 384, 12, 8, 80),  # the bundled model's widths, but deeper: exits need room
    "base": _albert(30_000, 768, 12, 12, 128),
    "large": _albert(30_000, 1024, 16, 24, 128),
}
"""All have ALBERT's form, so that every peer can run them; the weights are random."""


@dataclass(frozen=True, slots=True)
class BenchText:
    """One text of the bench; it exits after `depth` passes."""

    ticket: int
    ids: tuple[int, ...]
    depth: int
    request: Request  # for our runners, with `depth` as its depth limit


def text(ticket: int, ids: tuple[int, ...], depth: int) -> BenchText:
    """Build a text that exits after `depth` passes."""
    return BenchText(ticket, ids, depth, Request(ticket, ids, depth))


def texts(config: ModelConfig, lengths: Sequence[int], depths: Sequence[int], blocks: int) -> list[BenchText]:
    """Build `blocks` times the BLOCK lengths and BLOCK depths, each shuffled independently."""
    rng, found = random.Random(7), list[BenchText]()
    for _ in range(blocks):
        for length, depth in zip(rng.sample(lengths, BLOCK), rng.sample(depths, BLOCK), strict=True):
            ids = tuple(rng.randrange(5, config.vocab_size) for _ in range(length))
            found.append(text(len(found), ids, depth))
    return found


def usual_lengths(longest: int) -> list[int]:
    """Return BLOCK token counts: a log-normal's quantiles, cut at `longest`.

    Special tokens are included.
    """
    normal = NormalDist(math.log(MEDIAN), SPREAD)
    return [max(3, min(longest, round(math.exp(normal.inv_cdf(share))))) for share in _shares()]


def lengths_of(source: str, longest: int) -> list[int]:
    """Return the quantiles of a file of token counts, or one given length.

    The file has one count per line; a number gives one length for all. Raises ConfigError.
    """
    path = Path(source)
    if source.isdecimal() and 0 < int(source) <= longest:
        return [int(source)] * BLOCK
    try:
        found = sorted(int(line) for line in path.read_text("utf-8").split())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: token counts, one a line, required; {error}") from None
    if not found or found[0] < 1:
        raise ConfigError(f"{path}: at least one count, all from 1 up, required")
    return [min(longest, found[int(share * len(found))]) for share in _shares()]


def forced_depths(layers: int, mean_exit: float) -> list[int]:
    """Return BLOCK depths, 1 to `layers`, with mean `mean_exit` (share of the depth).

    They are right-skewed, as exits of trained models are.
    """
    if not 1 / layers <= mean_exit <= 1:
        raise ConfigError(f"mean exit: {1 / layers:.2f} to 1 of the depth required, was {mean_exit}")

    def spread(exponent: float) -> list[int]:
        return [1 + min(layers - 1, int(layers * share**exponent)) for share in _shares()]

    few, many = 0.01, 64.0  # a larger exponent exits earlier
    for _ in range(50):
        middle = (few + many) / 2
        too_deep = sum(spread(middle)) / BLOCK > mean_exit * layers
        few, many = (middle, many) if too_deep else (few, middle)
    return spread(few)


def _shares() -> list[float]:
    return [(place + 0.5) / BLOCK for place in range(BLOCK)]
