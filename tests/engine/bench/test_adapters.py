"""The bench of adapters times forms of one computation."""

from dataclasses import replace

import torch

from earlybird.engine.bench.adapters import forms
from earlybird.engine.bench.workload import GEOMETRIES
from earlybird.engine.config import AdapterConfig


def test_the_forms_agree() -> None:
    """Blocks of one depth, all depths side by side, text by text: one result."""
    layer, *adapters = forms(replace(GEOMETRIES["mini"], vocab_size=9, adapters=AdapterConfig())).values()
    with torch.inference_mode():
        first, *others = [work() for work in adapters]
        assert layer().shape == first.shape
    assert len(others) == 2 and first.abs().max() > 0.1
    for other in others:
        assert torch.allclose(first, other, atol=1e-4)
