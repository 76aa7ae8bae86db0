"""Outputs of imagined models, without a forward pass."""

import dataclasses
import hashlib

import torch

from earlybird.engine.config import AdapterConfig, ModelConfig
from earlybird.engine.evaluation.outputs import Outputs

CONFIG = ModelConfig(97, 16, 32, 2, 64, 6, 40, "project_then_norm", "mean", "gelu", 1e-12)


def synthetic(
    texts_count: int,
    seed: int,
    layers: int = 6,
    noise: int = 0,
    model: str = "model-seed-0",
    strategy: str | None = None,
    module: str | None = None,
    texts: str = "",
) -> Outputs:
    """Later exits are surer, and right more often; `seed` makes the texts, `noise` the model."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(3, (texts_count,), generator=rng)
    length = torch.randint(5, 40, (texts_count,), generator=rng)
    own = torch.Generator().manual_seed(1000 * seed + noise)
    signal = torch.nn.functional.one_hot(label, 3)[:, None] * torch.linspace(0.8, 2.5, layers)[None, :, None]
    spread = torch.randn(texts_count, 1, 3, generator=own) + 0.6 * torch.randn(texts_count, layers, 3, generator=own)
    learned = strategy in ("berxit", "pf_berxit")
    certainty = torch.rand(texts_count, layers, generator=own) if learned else None
    adapters = AdapterConfig(8, "ffn", module) if module else None  # type: ignore[arg-type]
    config = dataclasses.replace(
        CONFIG, layers=layers, adapters=adapters, learned_exits="per_layer" if learned else "none"
    )
    weights = hashlib.sha256(f"{model} {layers} {noise}".encode()).hexdigest() if model else "0" * 64
    return Outputs(
        config,
        weights,
        hashlib.sha256(str(seed).encode()).hexdigest(),
        "full",
        (signal + spread).float(),
        certainty,
        label,
        length,
        model=model,
        strategy=strategy,
        texts=texts,
    )
