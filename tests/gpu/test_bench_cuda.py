"""The bench on a real card: every row of it runs, and says what the oracle says.

    python -m pytest -m gpu tests/gpu/test_bench_cuda.py -v

None of it has run yet: it was written where no CUDA device was at hand.
"""

import pytest
import torch

from earlybird.engine.bench.idle import PAIRS, idle
from earlybird.engine.bench.measure import RunLength, measure
from earlybird.engine.bench.paired_models import paired_models
from earlybird.engine.bench.profile import profile
from earlybird.engine.bench.registry import BUILDS, MORE, ROWS
from earlybird.engine.bench.row import Setting
from earlybird.engine.bench.workload import BLOCK, GEOMETRIES, forced_depths, texts, usual_lengths
from earlybird.engine.device.step import Tier

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="NO CUDA DEVICE"),
    pytest.mark.timeout(1200),
]

CONFIG = GEOMETRIES["mini"]
PACE = RunLength(rounds=1, seconds=0.0, longest_s=60.0, checked=BLOCK)
TOLERANCE = {"float32": 1e-3, "bfloat16": 1.0, "float16": 0.2}


@pytest.fixture(scope="module")
def setting() -> Setting:
    tiers = (Tier(8, 128, 1), Tier(16, 256, 1), Tier(32, 512, 2), Tier(64, 2048, 4))
    return Setting(CONFIG, paired_models(CONFIG), 1, 16, 512, torch.device("cuda"), tiers)


def test_every_row_runs_on_the_card_and_agrees_with_the_oracle(setting: Setting) -> None:
    """All in one run, as the command does it; but for the kinds of tiles that do not hold here."""
    work = texts(CONFIG, usual_lengths(80), forced_depths(8, 0.4), 64)
    limit, results = measure({name: BUILDS[name] for name in ROWS["cuda"] + MORE["cuda"]}, setting, work, PACE, print)
    refused = [result for result in results if result.note]
    assert [result for result in refused if "deterministic: not possible" not in result.note] == []
    for result in (result for result in results if not result.note):
        assert result.depth_agreement == 1.0, result
        assert result.max_logit_diff is not None and result.max_logit_diff < TOLERANCE[result.dtype], result
    assert limit["bfloat16"] > limit["float32"]


def test_idle_latency_and_profile_are_measured_on_the_card(setting: Setting) -> None:
    """Without a claim on the figures."""
    work = texts(CONFIG, usual_lengths(80), forced_depths(8, 0.4), 8)
    assert len(idle(PAIRS["cuda"], setting, work[:8], print)) == len(PAIRS["cuda"])
    found = profile("resident_bf16", BUILDS["resident_bf16"](setting), setting, work, 1e5)
    assert {part.kind for part in found.parts} >= {"products", "attention", "card waits"} and found.kernels
