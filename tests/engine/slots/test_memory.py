"""Memory stays flat over any number of texts."""

import gc
import resource
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch

from earlybird.engine.exits.spec import parse
from earlybird.engine.slots.packed import Packed
from earlybird.engine.types import Request

TEXTS, WARM = 20_000, 2_000
PYTHON_BYTES, PROCESS_KB = 64_000, 16_000  # a leak of 4 bytes a text, or of 1 KB of tensors, passes neither


@pytest.mark.no_cover
def test_twenty_thousand_texts_leave_nothing_behind(tiny: Callable[..., Any]) -> None:
    """Neither objects nor tensors: of either a few bytes a text would show."""
    with torch.inference_mode():
        runner = Packed(tiny(), parse("cwb:delta=0.9,window=2", 8), slots=64, token_budget=400)
        said = _run(runner, 0, WARM)
        gc.collect()
        tracemalloc.start(1)
        try:
            peak_kb, before = _peak_kb(), tracemalloc.get_traced_memory()[0]
            said += _run(runner, WARM, TEXTS)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert said == TEXTS
    assert grown < PYTHON_BYTES, f"{grown} bytes of objects stayed"
    assert _peak_kb() - peak_kb < PROCESS_KB, f"the process grew by {_peak_kb() - peak_kb} KB"


def _run(runner: Packed, first: int, last: int) -> int:
    said = 0
    for start in range(first, last, 100):
        runner.submit([Request(ticket, (ticket % 97, 3, ticket % 13)) for ticket in range(start, start + 100)])
        while runner.waiting:
            said += len(runner.step())
    while runner.active:
        said += len(runner.step())
    return said


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
