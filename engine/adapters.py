"""Bottleneck adapters of PF-BERxiT: small maps beside the shared layer, with weights per depth.

Letters: ... rows of any shape, H hidden size, r rank.
"""

from collections.abc import Callable, Mapping

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


def adapt(config: AdapterConfig, weights: Mapping[str, Tensor], states: Tensor, eps: float, attend: Attend) -> Tensor:
    """Apply one depth's adapter to states (..., H); return the layer output's addend (..., H).

    Source: PF-BERxiT, equation 1, f(g(h W_down)) W_up, with g = ReLU and f one of identity, self-attention,
    convolution, MLP; the layer norm over H stands before W_down.
    """

    def linear(name: str, rows: Tensor) -> Tensor:
        return F.linear(rows, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, rows: Tensor) -> Tensor:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return F.layer_norm(rows, weight.shape, weight, bias, eps)

    small = F.relu(linear("down", norm("norm", states)))
    if config.module == "attention":
        mixed = attend(*(linear(f"module.{name}", small) for name in ("query", "key", "value")))
        small = F.relu(norm("module.norm", linear("module.out", mixed)))
    elif config.module == "convolution":
        small = F.relu(norm("module.norm", linear("module.map", small)))
    elif config.module == "mlp":
        small = F.relu(linear("module.map", small))
    return linear("up", small)
