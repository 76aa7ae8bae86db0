"""A model's own policy against fixed depths, text by text.

n texts, of which `won` are right under the policy alone and `lost` under the other alone.
"""

from dataclasses import dataclass
from math import sqrt

from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import walk

Z95 = 1.959964  # two-sided 95 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Paired:
    """Accuracy and cost of a policy, compared with another one on the same texts."""

    policy: str
    against: str
    difference: float  # accuracy of the policy less the other's
    low: float  # 95 % interval of the difference
    high: float
    won: int
    lost: int
    cost: float  # operations of the other for one of the policy


def against_depths(outputs: Outputs) -> list[Paired]:
    """Compare the model's own policy with every fixed depth, per rung of the policy."""
    learned, layers = outputs.certainty is not None, outputs.config.layers
    by_depth = outputs.by_depth()
    found = []
    for own in outputs.own:
        exits = walk(parse(own, layers, learned_exits=learned), by_depth)
        right = exits.label == outputs.label
        cost = float(outputs.costs.gather(1, exits.depth[:, None] - 1).mean())
        for depth in range(1, layers + 1):
            other = outputs.logits[:, depth - 1].argmax(dim=-1) == outputs.label
            won, lost = int((right & ~other).sum()), int((other & ~right).sum())
            low, high = interval(won, lost, len(outputs))
            ratio = float(outputs.costs[:, depth - 1].mean()) / cost
            name = "full" if depth == layers else f"fixed:{depth}"
            found.append(Paired(own, name, (won - lost) / len(outputs), low, high, won, lost, ratio))
    return found


def interval(won: int, lost: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of two accuracies' difference on the same n texts.

    Agresti and Min's adjusted Wald interval for matched pairs (Statistics in Medicine 24, 2005): half a text is added
    to each of the four cells, so that no difference at all still has a width.
    """
    total, difference = n + 2.0, won - lost
    half = Z95 * sqrt(won + lost + 1.0 - difference**2 / total)
    return max(-1.0, (difference - half) / total), min(1.0, (difference + half) / total)
