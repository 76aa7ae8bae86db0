"""Adapters in static shapes, for rows of several depths.

One product covers the maps of all depths, and each row keeps what those of its own depth give. No row is sorted or
gathered by depth, so no shape depends on a value, and a row's bits on no other row.

Letters: T token rows, D depths, H hidden size, r rank.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.adapters import adapter_shapes
from earlybird.engine.config import ModelConfig


def side_by_side(config: ModelConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the adapters' tensors over depths, under `adapters.` and their name.

    Maps are one map with the outputs of all depths, (D out, in); the last one has the inputs of all depths, (H, D r).
    Norms and the last map's bias, as `adapters.up_bias`, are (D, ...).
    """
    if config.adapters is None:
        return {}
    found = {}
    for name in adapter_shapes(config.adapters, config.hidden_size):
        depths = [tensors[f"adapter.{depth}.{name}"] for depth in range(config.layers)]
        if "norm" in name or name == "up.bias":
            found[f"adapters.{name.replace('up.bias', 'up_bias')}"] = torch.stack(depths)
        else:
            found[f"adapters.{name}"] = torch.cat(depths, dim=1 if name == "up.weight" else 0).contiguous()
    return found


@dataclass(frozen=True, slots=True)
class OwnDepth:
    """Maps of engine.adapters.adapt for rows of several depths.

    `apply` is the linear map of a name with its bias, if it has one.
    """

    joined: Mapping[str, Tensor]  # see side_by_side
    number: Tensor  # (T,) int64, each row's adapter, from 0
    eps: float
    apply: Callable[[str, Tensor], Tensor]

    def linear(self, name: str, rows: Tensor) -> Tensor:
        if name == "up":
            mine = self._depths() == self.number[:, None]  # (T, D)
            spread = (rows[:, None] * mine[:, :, None]).flatten(1)  # (T, D r): zeros but for the row's own depth
            return self.apply("adapters.up", spread) + self._own("up_bias")
        product = self.apply(f"adapters.{name}", rows).view(len(rows), len(self._depths()), -1)  # (T, D, out)
        return torch.take_along_dim(product, self.number[:, None, None], dim=1)[:, 0]

    def norm(self, name: str, rows: Tensor) -> Tensor:
        normed = F.layer_norm(rows, rows.shape[-1:], eps=self.eps)
        return normed * self._own(f"{name}.weight") + self._own(f"{name}.bias")

    def _own(self, name: str) -> Tensor:
        return self.joined[f"adapters.{name}"].index_select(0, self.number)

    def _depths(self) -> Tensor:
        return torch.arange(len(self.joined["adapters.up_bias"]), device=self.number.device)
