"""What padding and waiting cost, counted; ARCHITECTURE.md shows it."""

import re

from earlybird.engine.bench import workload
from earlybird.engine.bench.waste import Waste, waste
from project import ROOT


def test_texts_of_one_length_and_depth_waste_nothing() -> None:
    """Three texts alike in a batch of two: a whole batch and a rest."""
    texts = [workload.text(ticket, (2, 7, 3), 4) for ticket in range(3)]
    assert waste(texts, 2) == Waste(1.0, 1.0, 1.0)


def test_waste_is_counted_in_tokens() -> None:
    """Lengths 1 and 3, depths 4 and 2: 10 needed; waiting makes 16 of them, padding 18, both 24."""
    texts = [workload.text(0, (2,), 4), workload.text(1, (2, 7, 3), 2)]
    assert waste(texts, 2) == Waste(1.6, 1.8, 2.4)


def test_the_table_in_architecture_is_what_the_bench_counts() -> None:
    """Headlines, a mean exit of 0.4 of the depth, batches of 8 and 32."""
    written = re.findall(r"^\| batch of (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", _architecture(), re.MULTILINE)
    config = workload.GEOMETRIES["base"]
    lengths, depths = workload.usual_lengths(config.max_positions), workload.forced_depths(config.layers, 0.4)
    texts = workload.texts(config, lengths, depths, blocks=200)
    counted = [(batch, waste(texts, batch)) for batch in (8, 32)]
    assert written == [(str(n), f"{w.straggler:.1f}", f"{w.padding:.1f}", f"{w.both:.1f}") for n, w in counted]


def _architecture() -> str:
    return (ROOT / "ARCHITECTURE.md").read_text()
