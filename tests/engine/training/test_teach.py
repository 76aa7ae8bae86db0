"""Teachers: read from ONNX, trained in part, saved, read again by `train --teacher`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import ConfigError, NotAModel
from earlybird.engine.evaluation.challenge import held_out
from earlybird.engine.manifest import LABELS
from earlybird.engine.text.profiles import profile
from earlybird.engine.training import parts
from earlybird.engine.training.data import Example, read_examples
from earlybird.engine.training.encoder import ABOUT, load_teacher, save_teacher, start_teacher
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Recipe
from earlybird.engine.training.onnx_encoder import read_bert
from earlybird.engine.training.targets import UNSURE, own_targets
from earlybird.engine.training.teach import teach
from earlybird.engine.training.teachers import soft_targets
from earlybird.engine.training.train import train
from earlybird.stream.cli import main
from small_bert import save_bert


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two small layers beside the bundled tokenizer."""
    return save_bert(tmp_path_factory.mktemp("encoder"), hidden_size=64, num_hidden_layers=2, intermediate_size=96)


@pytest.fixture(scope="module")
def onnx_file(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as exporters write them: matrices nameless and transposed, their nodes with paths."""
    onnx = pytest.importorskip("onnx")
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    initializers, nodes = [], []
    for number, (name, tensor) in enumerate(load_file(encoder / "model.safetensors").items()):
        values, linear = tensor.numpy(), name.startswith("encoder.") and name.endswith("weight") and tensor.dim() == 2
        if linear:
            where = name.removesuffix(".weight").replace("layer.", "layer#").replace(".", "/").replace("#", ".")
            nodes.append(onnx.helper.make_node("MatMul", ["x", f"onnx::{number}"], [f"y{number}"], f"/{where}/MatMul"))
        stored = np.ascontiguousarray(values.T) if linear else values
        initializers.append(onnx.numpy_helper.from_array(stored, f"onnx::{number}" if linear else name))
    graph = onnx.helper.make_graph(nodes, "tiny", [], [], initializers)
    onnx.save(onnx.helper.make_model(graph), path)
    shutil.copy(BUNDLED_FOLDER / "tokenizer.json", path.with_name("tiny-tokenizer.json"))
    return path


def texts(path: Path, count: int = 60) -> Path:
    phrases = ("cuts outlook", "names chairman", "lifts outlook")
    lines = [json.dumps({"text": f"Firm{n} {phrases[n % 3]}", "label": LABELS[n % 3]}) for n in range(count)]
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_an_onnx_file_gives_back_the_weights_it_was_made_of(encoder: Path, onnx_file: Path) -> None:
    """By the names of BertModel, bit for bit; the teacher built from it is the same network."""
    expected = load_file(encoder / "model.safetensors")
    found = read_bert(onnx_file)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    loaded = start_teacher(onnx_file, "natural-v2", 80, 0.0, 0).network.tensors()
    assert all(torch.equal(loaded[f"encoder.{name}"], tensor) for name, tensor in expected.items())


def test_what_is_no_encoder_is_refused(tmp_path: Path) -> None:
    """With the file's name."""
    pytest.importorskip("onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(NotAModel, match=r"bad\.onnx"):
        read_bert(tmp_path / "bad.onnx")
    with pytest.raises(NotAModel, match="tokenizer"):
        start_teacher(tmp_path, "natural-v2", 80, 0.0, 0)
    (tmp_path / ABOUT).write_text("{}", "utf-8")
    with pytest.raises(NotAModel, match="no teacher"):
        load_teacher(tmp_path)


def test_a_taught_encoder_labels_texts_for_a_training(encoder: Path, tmp_path: Path) -> None:
    """Lower layers stay, the rest moves and learns; `train --teacher` reads the folder."""
    file = texts(tmp_path / "texts.jsonl")
    options = ["--train", str(file), "--epochs", "6", "--learning-rate", "3e-3", "--head-learning-rate", "1e-2"]
    assert (
        main(["teach", "--start", str(encoder), *options, "--first-layer", "1", "--output", str(tmp_path / "t")]) == 0
    )
    folder = tmp_path / "t" / "teacher"
    before, after = load_file(encoder / "model.safetensors"), load_file(folder / "model.safetensors")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("encoder.layer.1.")}
    examples = read_examples(file)
    soft = soft_targets([str(folder)], [each.text for each in examples], tmp_path / "c", None, lambda *_: None)
    assert [int(row.argmax()) for row in soft] == [each.label for each in examples]
    taught = ["train", "--start", "bundled", "--train", str(file), "--layers", "2", "--epochs", "1", "--invented", "6"]
    assert main([*taught, "--teacher", str(folder), "--output", str(tmp_path / "run")]) == 0


def test_a_taught_teacher_goes_on_under_another_profile(encoder: Path, tmp_path: Path) -> None:
    """The profile asked for is the one that the next teacher keeps, not that of the first."""
    save_teacher(tmp_path / "first", start_teacher(encoder, "natural-v2", 80, 0.0, 0))
    first = load_teacher(tmp_path / "first")
    assert first.reader.profile.name == "natural-v2"
    assert start_teacher(tmp_path / "first", "natural-v3", 64, 0.0, 0).reader.describe() == {
        **first.reader.describe(),
        "profile": "natural-v3",
        "profile_hash": profile("natural-v3").hash,
        "max_tokens": 64,
    }


def test_a_share_of_the_start_can_be_kept(encoder: Path, tmp_path: Path) -> None:
    """The result lies between the start and a training that keeps nothing of it."""
    file = texts(tmp_path / "texts.jsonl", 30)
    found = {}
    for keep in (0.0, 0.25):
        job = Job(
            start=str(encoder),
            train=(file,),
            output=tmp_path / str(keep),
            recipe=Recipe(epochs=1, learning_rate=1e-2, dropout=0.0),
        )
        found[keep] = load_file(teach(job, 0, keep, Watch()) / "model.safetensors")
    start = load_file(encoder / "model.safetensors")
    for name, tensor in found[0.25].items():
        torch.testing.assert_close(tensor, 0.75 * found[0.0][name] + 0.25 * start[name])
    with pytest.raises(ConfigError, match="keep-start"):
        teach(job, 0, 1.0, Watch())


def test_no_held_out_text_is_invented_into_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In any case and punctuation; other invented texts have their own label as target, not a teacher's."""
    secret = held_out()[0]
    drawn = [Example(f"  {secret.text.upper()}!", secret.label), *(Example(f"Firm{n} up", 2) for n in range(5))]
    monkeypatch.setattr(parts, "invented_examples", lambda *_: drawn)
    job = Job(
        start=str(BUNDLED_FOLDER),
        train=(texts(tmp_path / "texts.jsonl", 30),),
        output=tmp_path / "run",
        invented=6,
        layers=2,
        teachers=(str(BUNDLED_FOLDER),),
        recipe=Recipe(epochs=1, learning_rate=0.0),
    )
    train(job, Watch())
    assert json.loads((tmp_path / "run" / "data.json").read_text())["invented"]["texts"] == 5
    targets = own_targets([each.label for each in drawn])
    assert targets.sum(dim=1).tolist() == pytest.approx([1.0] * 6)
    assert float(targets[1, 2]) == pytest.approx(1 - UNSURE * 2 / 3)


def test_calibration_texts_are_the_same_for_fewer_training_texts(tmp_path: Path) -> None:
    """So that a teacher of a few texts has not seen what its student is certified on."""
    kept = []
    for count in (None, 12):
        job = Job(
            start=str(BUNDLED_FOLDER),
            train=(texts(tmp_path / "texts.jsonl"),),
            output=tmp_path / f"run-{count}",
            dev=texts(tmp_path / "dev.jsonl", 3),
            calibration=0.2,
            texts=count,
            layers=2,
            recipe=Recipe(epochs=1, learning_rate=0.0),
        )
        train(job, Watch())
        kept.append((job.output / "calibration.jsonl").read_text())
    assert kept[0] == kept[1] and len(kept[0].splitlines()) == 12
