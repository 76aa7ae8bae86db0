"""The bench: fair texts, rows that do what they say, wrong rows that are noticed, missing peers that are named."""

import importlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from earlybird.engine.bench import ours, peers_hf_device, peers_ort
from earlybird.engine.bench.flips_command import flips
from earlybird.engine.bench.host import host
from earlybird.engine.bench.idle import PAIRS
from earlybird.engine.bench.limit import peaks
from earlybird.engine.bench.machine import machine
from earlybird.engine.bench.measure import BASELINE, MISSING, Result, RunLength, measure
from earlybird.engine.bench.paired_models import paired_models
from earlybird.engine.bench.registry import BUILDS, IDLE, MORE, ROWS
from earlybird.engine.bench.row import BenchRow, Build, PeerResult, Setting
from earlybird.engine.bench.workload import (
    BLOCK,
    GEOMETRIES,
    BenchText,
    forced_depths,
    lengths_of,
    texts,
    usual_lengths,
)
from earlybird.engine.config import Dtype, ModelConfig
from earlybird.engine.device.step import Tier
from earlybird.engine.errors import ConfigError
from earlybird.engine.flops import flops
from earlybird.engine.types import Verdict
from earlybird.schemas.signal import ExitReason
from earlybird.stream import cli

CHECKED: dict[str, Build] = BUILDS | {
    f"{name}, {part}": build
    for pairs in PAIRS.values()
    for name, builds in pairs.items()
    for part, build in zip(("idle", "alone"), builds, strict=True)
}
"""Every row, and those that are timed on an idle engine."""
SMALL = ModelConfig(97, 16, 32, 2, 64, 4, 40, "norm_then_project", "first", "gelu_new", 1e-12)
PACE = RunLength(rounds=1, seconds=0.0, longest_s=0.0, checked=BLOCK)


@pytest.fixture(scope="module")
def setting() -> Setting:
    tiers = (Tier(2, 20), Tier(4, 40), Tier(4, 80, 2), Tier(8, 160, 3))
    return Setting(SMALL, paired_models(SMALL), threads=1, slots=4, token_budget=100, tiers=tiers)


@pytest.fixture
def work() -> list[BenchText]:
    return texts(SMALL, usual_lengths(40), forced_depths(4, 0.5), 2)


@pytest.mark.parametrize("layers", [4, 8, 12, 24])
@pytest.mark.parametrize("mean_exit", [0.3, 0.4, 0.75])
def test_forced_depths_have_the_mean_that_was_asked_for(layers: int, mean_exit: float) -> None:
    """Within one layer of one text in five, and inside the model."""
    depths = forced_depths(layers, mean_exit)
    assert len(depths) == BLOCK and min(depths) >= 1 and max(depths) <= layers
    assert sum(depths) / BLOCK == pytest.approx(mean_exit * layers, abs=0.2)


def test_every_block_holds_the_same_work_in_another_order() -> None:
    """So that slow rows may be given fewer blocks."""
    found = texts(SMALL, usual_lengths(40), forced_depths(4, 0.5), 3)
    blocks = [found[start : start + BLOCK] for start in range(0, len(found), BLOCK)]
    for part in (lambda text: len(text.ids), lambda text: text.depth):
        assert len({tuple(sorted(map(part, block))) for block in blocks}) == 1
    assert len({tuple(len(text.ids) for text in block) for block in blocks}) == 3


def test_lengths_are_those_of_headlines_or_of_a_file(tmp_path: Path) -> None:
    """Median 24 and 5 % over 60; a file's quantiles, cut at the longest."""
    usual = usual_lengths(128)
    assert usual[BLOCK // 2] == pytest.approx(24, abs=1) and sum(length > 60 for length in usual) == 2
    (tmp_path / "lengths").write_text("\n".join(map(str, [5] * 50 + [900] * 50)))
    assert lengths_of(str(tmp_path / "lengths"), 40) == [5] * 16 + [40] * 16
    assert lengths_of("32", 40) == [32] * BLOCK
    for content in ("", "3\nfour", "0\n3"):
        (tmp_path / "wrong").write_text(content)
        with pytest.raises(ConfigError, match="required"):
            lengths_of(str(tmp_path / "wrong"), 40)


def test_operations_are_counted_as_the_research_did() -> None:
    """ALBERT-base, 12 layers: about 5.07 G for a text of 29.6 tokens at full depth, attention included."""
    assert flops(GEOMETRIES["base"], 30, 12) == pytest.approx(5.07e9 * 30 / 29.6, rel=0.02)
    assert flops(GEOMETRIES["base"], 30, 6) == pytest.approx(flops(GEOMETRIES["base"], 30, 12) / 2, rel=0.01)
    assert flops(replace(GEOMETRIES["base"], pool="mean"), 30, 1) == flops(GEOMETRIES["base"], 30, 1) - 2 * 768**2


@pytest.fixture(scope="module")
def measured(setting: Setting) -> tuple[dict[str, float], dict[str, Result]]:
    """The limit and every row there is, those for a card, too: on the CPU they run the same code, but for graphs,
    streams and the attention."""
    found = texts(SMALL, usual_lengths(40), forced_depths(4, 0.5), 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers_hf_device, "COMPILER", "eager")
        limit, results = measure(CHECKED, setting, found, PACE, lambda _: None)
    return limit, {result.name: result for result in results}


@pytest.mark.parametrize("name", CHECKED)
def test_every_row_says_what_the_oracle_says(name: str, measured: tuple[dict[str, float], dict[str, Result]]) -> None:
    """At its depth or the last, with the oracle's logits: within what the dtype allows."""
    limit, result = measured[0], measured[1][name]
    if name in peers_ort.ROWS and result.note.endswith(MISSING):  # a row that breaks fails
        pytest.skip(result.note.upper())
    assert result.note == ""
    assert result.depth_agreement == 1.0
    tolerance = {"float32": 1e-4, "bfloat16": 0.5, "float16": 0.1, "int8": 1.0}[result.dtype]
    assert result.max_logit_diff is not None and result.max_logit_diff < tolerance
    assert result.label_agreement is not None and result.label_agreement >= (1.0 if result.dtype == "float32" else 0.8)
    assert limit[result.dtype] > 0 and result.texts_per_s and result.share


@pytest.mark.parametrize(
    "name", ["hf_batch32", "hf_unpadded256", "algorithm1", "algorithm1_stream", "packed_fp32", "packed_on_device_fp32"]
)
def test_every_text_is_answered_once(name: str, setting: Setting, work: list[BenchText]) -> None:
    """In any order."""
    assert sorted(said.ticket for said in BUILDS[name](setting).run(work)) == list(range(len(work)))


@pytest.mark.parametrize("name", ["algorithm1", "algorithm1_stream"])
def test_algorithm_1_pads_as_printed(name: str, setting: Setting, work: list[BenchText]) -> None:
    """To the longest text of each run (section IV-B, Case 1), not to the longest allowed: that is the stream's row."""
    short = [text for text in work if len(text.ids) < 30]
    row: Any = BUILDS[name](setting)
    widths, padded = set[int](), row.padded

    def watched(texts: Sequence[BenchText], width: int) -> Any:
        widths.add(width)
        return padded(texts, width)

    row.padded = watched
    for run in (short, work):
        widths.clear()
        row.run(run)
        longest = max(len(text.ids) for text in run)
        assert widths == {longest if name == "algorithm1" else setting.config.max_positions}


@pytest.mark.parametrize("device", ROWS)
def test_a_device_is_given_rows_that_exist(device: str) -> None:
    """Each once; the oldest peer, which all ratios are to, among them."""
    names = ROWS[device] + MORE[device]
    assert len(set(names)) == len(names) and set(names) <= set(BUILDS)
    assert BASELINE in ROWS[device] and len(ROWS[device]) <= 20, "a table of rows that one can still read"
    assert set(IDLE[device]) <= set(PAIRS[device])


def test_the_int8_peer_is_refused_unless_every_product_is_int8(setting: Setting) -> None:
    """Weights behind Transpose nodes, as exporters write them, stay in float32: such a peer would flatter us."""
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    ort_graph = importlib.import_module("earlybird.engine.bench.ort_graph")
    model = ort_graph.one_pass(SMALL, setting.models.tensors)
    turned = ort_graph.eight_bits(model, reduce_range=True)
    assert sum(node.op_type == "MatMulInteger" for node in turned.graph.node) == 6 + 2  # pooler and classifier too
    for constant in list(model.graph.initializer):
        if constant.name == "layer.widen.transposed":
            values = onnx.numpy_helper.to_array(constant)
            constant.CopyFrom(onnx.numpy_helper.from_array(values.T.copy(), "behind"))
            node = onnx.helper.make_node("Transpose", ["behind"], ["layer.widen.transposed"], perm=[1, 0])
            model.graph.node.insert(0, node)
    with pytest.raises(ConfigError, match="1 are in float32"):
        ort_graph.eight_bits(model, reduce_range=True)


class Wrong:
    """Every second text one layer late, all with the logits turned round."""

    dtype: Dtype = "float32"
    peer, refilled, slots = True, False, 1

    def run(self, texts: Sequence[BenchText]) -> list[PeerResult]:
        return [PeerResult(text.ticket, min(text.depth + text.ticket % 2, 4), (9.0, 0.0, -9.0)) for text in texts]


def test_a_wrong_row_is_noticed(setting: Setting, work: list[BenchText]) -> None:
    """Speed without the right answers does not pass for speed."""
    builds: dict[str, Build] = {"wrong": lambda _: Wrong()}
    _, (result,) = measure(builds, setting, work, PACE, lambda _: None)
    assert result.depth_agreement is not None and 0.4 < result.depth_agreement < 0.9
    assert result.label_agreement is not None and result.label_agreement < 0.9
    assert result.max_logit_diff is not None and result.max_logit_diff > 1.0


def test_a_missing_peer_is_named_with_its_cure(setting: Setting, work: list[BenchText]) -> None:
    """Never dropped."""

    def absent(_: Setting) -> BenchRow:
        raise ModuleNotFoundError("no", name="onnxruntime")

    _, (missing, there) = measure(
        {"onnxruntime_fp32_batch1": absent, "packed_fp32": ours.ROWS["packed_fp32"]},
        setting,
        work,
        PACE,
        lambda _: None,
    )
    assert (
        missing.note == "onnxruntime not installed: install the extra 'bench', in a checkout pip install -e '.[bench]'"
    )
    assert missing.texts_per_s is None and there.texts_per_s


def test_the_table_marks_what_measures_the_drain(capsys: pytest.CaptureFixture[str]) -> None:
    """And shows notes in place of figures."""
    table = importlib.import_module("earlybird.engine.bench.table")
    drains = Result(
        "packed_fp32", "", "float32", False, 16, True, 32, 1.0, 9.0, 8.0, 10.0, 2.0, 1.5, 0.5, 1.0, 1.0, 0.0
    )
    results = [Result("onnxruntime_fp32_batch1", note="pip install 'earlybird[bench]'"), drains]
    table.show({"machine": machine(1), "rows": [asdict(result) for result in results]})
    shown = capsys.readouterr().out
    assert "pip install 'earlybird[bench]'" in shown, "brackets are no markup"
    assert "packed_fp32 *" in shown and "fewer than 20 refills" in shown


def test_flips_count_labels_layers_and_changes() -> None:
    """Changes of texts that left at the same layer are told apart."""

    def verdict(label: int, top: float, layer: int) -> Verdict:
        probs = (top, 1 - top, 0.0) if label == 0 else (1 - top, top, 0.0)
        return Verdict(0, label, probs, (0.0,) * 3, layer, ExitReason.WINDOW, 0.1)

    exact = {1: verdict(0, 0.9, 2), 2: verdict(0, 0.6, 2), 3: verdict(1, 0.8, 3)}
    other = {1: verdict(0, 0.88, 2), 2: verdict(1, 0.6, 3), 3: verdict(1, 0.8, 3)}
    report = flips(exact, other)
    assert (report["texts"], report["labels"], report["layers"]) == (3, 1, 1)
    assert report["max_change"] == pytest.approx(0.2) and report["max_change_same_layer"] == pytest.approx(0.02)


def test_flips_of_a_file_are_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The bundled model in eight bits, over lines of text and of JSON."""
    (tmp_path / "lines").write_text('Acme shares jump 7% after results\n{"text": "Acme files for bankruptcy"}\n\n')
    assert cli.main(["bench", "flips", "--dtype", "int8", "--json", str(tmp_path / "lines")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["texts"] == 2 and 0 < report["max_change_same_layer"] < 0.2


def test_the_host_side_answers_what_it_was_given(work: list[BenchText]) -> None:
    """Around played steps: every text leaves once, whatever they are played with."""
    assert host(SMALL, work).texts_per_s > 0


def test_the_limit_is_positive_for_every_dtype() -> None:
    """Whatever the machine has units for."""
    assert all(value > 0 for value in peaks(SMALL, ["float32", "bfloat16", "int8"]).values())


@pytest.fixture(autouse=True)
def threads_left_alone() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
