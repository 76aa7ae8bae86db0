"""Cost of adapters of all depths at once, in each form.

`python -m earlybird.engine.bench.adapters`: time beside a pass of the shared layer. One thread, CPU time, 16 texts of
32 tokens, spread over all depths.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from earlybird.engine.adapters import OneDepth, adapt, adapter_shapes
from earlybird.engine.bench.clock import spent
from earlybird.engine.bench.workload import GEOMETRIES
from earlybird.engine.config import AdapterConfig, ModelConfig
from earlybird.engine.device.layer import Spread, StaticElbert
from earlybird.engine.weights import shapes

SLOTS, LENGTH = 16, 32
Work = Callable[[], Tensor]


def spread(layers: int) -> Spread:
    """Lay out SLOTS texts of LENGTH tokens, the deepest first."""
    rows, lengths = torch.arange(SLOTS * LENGTH), torch.full((SLOTS,), LENGTH)
    ends = lengths.cumsum(0)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), ends]).int()
    depth = torch.linspace(layers, 1, SLOTS).round().long()
    return Spread(rows >= 0, rows // LENGTH, rows % LENGTH, ends - lengths, lengths, offsets, depth)


def forms(config: ModelConfig, seed: int = 0) -> dict[str, Work]:
    """Return a pass of the layer without adapters, and the adapters' addend in each form."""
    assert config.adapters is not None
    adapters, eps, rng = config.adapters, config.layer_norm_eps, torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=rng) / shape[-1] ** 0.5 for name, shape in shapes(config).items()}
    states, texts = torch.randn(SLOTS * LENGTH, config.hidden_size, generator=rng), spread(config.layers)
    plain, model = StaticElbert(replace(config, adapters=None), tensors), StaticElbert(config, tensors)
    names = adapter_shapes(adapters, config.hidden_size)
    depths = [{name: tensors[f"adapter.{depth}.{name}"] for name in names} for depth in range(config.layers)]
    one, alone = [OneDepth(each, eps) for each in depths], lambda *_: torch.empty(0)
    blocks = {name: torch.stack([each[name] for each in reversed(depths)]) for name in names}
    down, up = (blocks[f"{name}.weight"].transpose(1, 2).contiguous() for name in ("down", "up"))

    def by_text() -> Tensor:
        pairs = zip(torch.split(states, LENGTH), texts.depth.tolist(), strict=True)
        return torch.cat([adapt(adapters, one[depth - 1], text, alone) for text, depth in pairs])

    def grouped() -> Tensor:
        block = config.layers - texts.depth  # (N,) the deepest texts' block is the first
        ends = torch.zeros(config.layers, dtype=torch.int64).index_add_(0, block, texts.lengths).cumsum(0).int()
        weight, bias, below, above = (
            blocks[name].index_select(0, block.index_select(0, texts.slot))
            for name in ("norm.weight", "norm.bias", "down.bias", "up.bias")
        )
        normed = F.layer_norm(states, states.shape[-1:], eps=eps) * weight + bias
        small = F.relu(F.grouped_mm(normed, down, offs=ends) + below)
        return F.grouped_mm(small, up, offs=ends) + above

    return {
        "a pass of the layer": lambda: plain.advance(states, texts),
        "all depths side by side (device loop)": lambda: model.adapted(states, texts),
        "a product per block of one depth (grouped_mm)": grouped,
        "text by text (packed slots)": by_text,
    }


def main() -> None:
    """Print each form's time per pass, and its share of a pass of the layer."""
    torch.set_num_threads(1)
    for name, geometry in GEOMETRIES.items():
        with torch.inference_mode():
            times = {
                form: spent(work, least=0.1)
                for form, work in forms(replace(geometry, adapters=AdapterConfig())).items()
            }
        layer = next(iter(times.values()))
        for form, seconds in times.items():
            print(f"{name:6}{form:48}{seconds * 1e3:8.2f} ms {seconds / layer:6.0%}")


if __name__ == "__main__":
    main()
