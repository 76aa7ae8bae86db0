"""Inputs of a training: named by hash in the manifest, teachers' answers shared between runs, passes in bfloat16."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import ConfigError
from earlybird.engine.manifest import LABELS, Manifest
from earlybird.engine.training.inputs import path_sha256
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Recipe
from earlybird.engine.training.train import train
from earlybird.engine.weights import load


def texts(path: Path, count: int) -> Path:
    phrases = ("cuts outlook", "names chairman", "lifts outlook")
    lines = [json.dumps({"text": f"Firm{n} {phrases[n % 3]}", "label": LABELS[n % 3]}) for n in range(count)]
    path.write_text("\n".join(lines), "utf-8")
    return path


def job(folder: Path, name: str, precision: str = "float32", rate: float = 1e-3) -> Job:
    titles = folder / "titles.jsonl"
    titles.write_text('{"text": "Firm90 lifts outlook again"}\n', "utf-8")
    return Job(
        start=str(BUNDLED_FOLDER),
        train=(texts(folder / "texts.jsonl", 30),),
        output=folder / name,
        unlabelled=(titles,),
        invented=6,
        layers=2,
        teachers=(str(BUNDLED_FOLDER),),
        teacher_cache=folder / "cache",
        recipe=Recipe(epochs=1, learning_rate=rate, dropout=0.0, precision=precision),
    )


class Counted(Watch):
    """Watch that counts the texts of the parts and those that a teacher has labelled."""

    def __init__(self) -> None:
        self.sizes: Mapping[str, int] = {}
        self.labelled = 0

    def data(self, sizes: Mapping[str, int]) -> None:
        self.sizes = sizes

    def teacher(self, name: str, done: int, total: int) -> None:
        self.labelled = done


def test_a_manifest_names_every_input_by_its_hash(tmp_path: Path) -> None:
    """Start, teachers, files and invented texts; the hashes are those of sha256sum and of data.json."""
    outcome = train(job(tmp_path, "run"), Watch())
    found = Manifest.model_validate_json((outcome.chosen / "manifest.json").read_text("utf-8")).ingredients
    invented = json.loads((tmp_path / "run" / "data.json").read_text("utf-8"))["invented"]
    folder = path_sha256(BUNDLED_FOLDER)
    assert folder is not None
    assert [(each.name, each.sha256) for each in found] == [
        ("elbert-mini", folder),
        ("elbert-mini", folder),
        *((name, sha256((tmp_path / name).read_bytes()).hexdigest()) for name in ("texts.jsonl", "titles.jsonl")),
        ("6 invented texts", invented["sha256"]),
    ]


def test_a_folders_hash_covers_names_and_contents(tmp_path: Path) -> None:
    """A hub name that is no path has none."""
    for name, content in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(content)
    first = path_sha256(tmp_path / "a")
    assert first != path_sha256(tmp_path / "b")
    (tmp_path / "a" / "file").rename(tmp_path / "a" / "other")
    assert path_sha256(tmp_path / "a") not in (first, None)
    assert path_sha256(Path("some/hub-name")) is None


def test_runs_share_the_teachers_answers(tmp_path: Path) -> None:
    """A second run with the same texts and cache asks no teacher."""
    first, second = Counted(), Counted()
    train(job(tmp_path, "first"), first)
    train(job(tmp_path, "second"), second)
    assert (first.labelled, second.labelled) == (first.sizes["train"] + first.sizes["unlabelled"], 0)


def test_bfloat16_passes_train_nearly_the_same_weights(tmp_path: Path) -> None:
    """Updates stay in float32: one epoch ends near the one in float32, and elsewhere than its start."""
    start = load(BUNDLED_FOLDER).tensors
    exact, rough = (load(train(job(tmp_path, name, name), Watch()).chosen).tensors for name in ("float32", "bfloat16"))
    name = "embedding.project.weight"
    moved, apart = (exact[name] - start[name]).float().norm(), (exact[name] - rough[name]).float().norm()
    assert 0 < apart < 0.5 * moved
    assert rough[name].dtype == torch.float32 or rough[name].dtype == exact[name].dtype
    with pytest.raises(ConfigError, match="precision: one of float32, bfloat16 required, was 'half'"):
        Recipe(precision="half")
