"""Bottleneck adapters of PF-BERxiT: small maps beside the shared layer, with weights per depth.

Letters: ... rows of any shape, H hidden size, r rank.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.config import AdapterConfig

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Query, key, value (..., r) -> (..., r), each row attending to the rows of its own text."""


def adapter_shapes(config: AdapterConfig, hidden: int) -> dict[str, tuple[int, ...]]:
    """Return the tensor shapes of one depth's adapter, by name; linear weights are (out, in).

    The counts of PF-BERxiT's Table 2 (H 768, r 32, 12 layers) imply the layer norms, which equation 1 leaves out: one
    over H, one over r in the attention and convolution modules; and a convolution of kernel 1, which is a linear map.
    """
    rank = config.rank
    maps = {"down": (rank, hidden), "up": (hidden, rank)}
    if config.module == "attention":
        maps |= {f"module.{name}": (rank, rank) for name in ("query", "key", "value", "out")}
    elif config.module in ("convolution", "mlp"):
        maps["module.map"] = (rank, rank)
    norms = {"norm": hidden} | ({"module.norm": rank} if config.module in ("attention", "convolution") else {})
    found: dict[str, tuple[int, ...]] = {}
    for name, (rows, columns) in maps.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = (rows, columns), (rows,)
    for name, width in norms.items():
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)
    return found


class Maps(Protocol):
    """The tensors of adapters, as maps of rows by name."""

    def linear(self, name: str, rows: Tensor) -> Tensor:
        """Apply a linear map with its bias: (..., in) -> (..., out)."""

    def norm(self, name: str, rows: Tensor) -> Tensor:
        """Apply a layer norm over the last dimension."""


@dataclass(frozen=True, slots=True)
class OneDepth:
    """Maps of one depth's adapter, `weights` as in adapter_shapes."""

    weights: Mapping[str, Tensor]
    eps: float

    def linear(self, name: str, rows: Tensor) -> Tensor:
        return F.linear(rows, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, rows: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return F.layer_norm(rows, weight.shape, weight, bias, self.eps)


def adapt(config: AdapterConfig, maps: Maps, states: Tensor, attend: Attend) -> Tensor:
    """Apply adapters to states (..., H); return the layer output's addend (..., H).

    Source: PF-BERxiT, equation 1, f(g(h W_down)) W_up, with g = ReLU and f one of identity, self-attention,
    convolution, MLP; the layer norm over H stands before W_down.
    """
    small = F.relu(maps.linear("down", maps.norm("norm", states)))
    if config.module == "attention":
        mixed = attend(*(maps.linear(f"module.{name}", small) for name in ("query", "key", "value")))
        small = F.relu(maps.norm("module.norm", maps.linear("module.out", mixed)))
    elif config.module == "convolution":
        small = F.relu(maps.norm("module.norm", maps.linear("module.map", small)))
    elif config.module == "mlp":
        small = F.relu(maps.linear("module.map", small))
    return maps.linear("up", small)
