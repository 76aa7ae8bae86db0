"""Where a training starts: an ALBERT from a folder or the hub, one layer of another encoder, or random weights."""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AlbertForSequenceClassification, BertConfig, BertModel

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import BUNDLED_FOLDER, Engine
from earlybird.engine.errors import ConfigError, DataError, NotAModel
from earlybird.engine.manifest import LABELS, WEIGHTS
from earlybird.engine.text.assembly import Text
from earlybird.engine.training.encoder import save_teacher, start_teacher
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Recipe
from earlybird.engine.training.network import Batch, Network
from earlybird.engine.training.start import from_layers, from_model
from earlybird.engine.training.train import train
from earlybird.engine.types import Request
from earlybird.engine.weights import load
from small_albert import SIZES, WORDS, save_albert, save_tokenizer

IDS = [[2, 4, 7, 8, 3], [2, 5, 3]]


@pytest.fixture(scope="module")
def albert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_albert(tmp_path_factory.mktemp("albert"))


def texts(path: Path) -> Path:
    rows = [(f"firm {verb} outlook {n}", label) for n in range(20) for verb, label in
            (("cuts", "negative"), ("names", "neutral"), ("lifts", "positive"))]  # fmt: skip
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows), "utf-8")
    return path


def job(folder: Path, start: str, **options: object) -> Job:
    recipe = Recipe(epochs=1, learning_rate=0.0)  # the weights stay as they started
    return Job(start, (texts(folder / "texts.jsonl"),), folder / "run", recipe=recipe, **options)  # type: ignore[arg-type]


def test_an_albert_says_what_transformers_says_in_our_label_order(albert: Path) -> None:
    """Its trained classifier is kept, row by row."""
    start = from_model(str(albert))
    theirs = AlbertForSequenceClassification.from_pretrained(albert).eval()
    with torch.no_grad():
        ours = Network(start.config, start.tensors).eval()(Batch.of([tuple(ids) for ids in IDS]))[-1].logits
        for row, ids in zip(ours, IDS, strict=True):
            assert torch.allclose(row, theirs(torch.tensor([ids])).logits[0, [1, 2, 0]], atol=1e-5)


def test_an_albert_folder_becomes_a_model_of_the_stage(albert: Path, tmp_path: Path) -> None:
    outcome = train(job(tmp_path, str(albert)), Watch())
    engine = Engine.load(EngineConfig(model=str(outcome.chosen), policy="fixed:2", device="cpu"))
    assert (engine.max_layers, engine.checkpoint.config.pool) == (4, "first")


def test_one_layer_of_another_encoder_is_shared_by_all_passes(tmp_path: Path) -> None:
    """Without a cut of the embeddings (a padding row of zeros included), the first pass is the encoder's own layer."""
    torch.manual_seed(1)
    bert = BertModel(BertConfig(vocab_size=len(WORDS), **SIZES)).eval()
    bert.save_pretrained(tmp_path / "bert")
    save_tokenizer(tmp_path / "bert")
    start = from_layers(str(tmp_path / "bert"), [0], embedding_size=9, layers=5)  # 9 words have a rank of 9 at most
    assert (start.config.layers, start.config.hidden_size) == (5, 16)
    tensors = dict(start.tensors) | {
        "classifier.0.weight": torch.eye(16)[:3],  # the first three numbers of the pooled state
        "classifier.0.bias": torch.zeros(3),
    }
    ids = torch.tensor([IDS[0]])
    with torch.no_grad():
        first = bert(ids, output_hidden_states=True).hidden_states[1][0].mean(dim=0)
        ours = Network(start.config, tensors).eval()(Batch.of([tuple(IDS[0])]))[0].logits[0]
    assert torch.allclose(ours, first[:3], atol=1e-5)
    outcome = train(job(tmp_path, str(tmp_path / "bert"), layer=(1,), layers=2, embedding_size=4), Watch())
    assert load(outcome.chosen).config.embedding_size == 4
    with pytest.raises(ConfigError, match="layer: 0 to 3 required, was 4"):
        from_layers(str(tmp_path / "bert"), [0, 4], 4, None)
    with pytest.raises(ConfigError, match="embedding_size: at most 16 required, was 17"):
        from_layers(str(tmp_path / "bert"), [0], 17, None)


def test_all_layers_of_a_teacher_are_the_teacher_with_an_exit_after_each(tmp_path: Path) -> None:
    """Its tokenizer and its classifier, too; the deepest exit answers like it, in slots as in training."""
    torch.manual_seed(2)
    bert = BertModel(BertConfig(vocab_size=14_000, **SIZES), add_pooling_layer=False)
    bert.save_pretrained(tmp_path / "bert")
    shutil.copy(BUNDLED_FOLDER / "tokenizer.json", tmp_path / "bert")
    teacher = start_teacher(tmp_path / "bert", "natural-v3", 32, 0.0, 0)
    torch.nn.init.normal_(teacher.network.classifier.weight)
    folder = save_teacher(tmp_path / "teacher", teacher)
    outcome = train(job(tmp_path, str(folder), layer=(0, 1, 2, 3), embedding_size=16), Watch())
    engine = Engine.load(EngineConfig(model=str(outcome.chosen), policy="full", device="cpu"))
    assert (engine.max_layers, engine.checkpoint.config.groups) == (4, 4)
    (encoded,) = engine.encoder.encode([Text(("Norvex lifts full-year outlook",))])
    assert encoded is not None
    with torch.no_grad():
        expected = teacher.network.eval()(Batch.of([encoded.token_ids]))[0].logits[0]
    runner = engine.runner()
    runner.submit([Request(0, encoded.token_ids)])
    said = [verdict for _ in range(4) for verdict in runner.step()]
    assert torch.allclose(torch.tensor(said[0].logits), expected, atol=2e-2)  # weights are stored in half precision


def test_of_another_vocabulary_only_the_common_pieces_are_kept(tmp_path: Path) -> None:
    """A text of these pieces is embedded as before; a piece that the start lacks is refused by name."""
    torch.manual_seed(3)
    BertModel(BertConfig(vocab_size=len(WORDS), **SIZES)).eval().save_pretrained(tmp_path / "bert")
    save_tokenizer(tmp_path / "bert")
    fewer = (*WORDS[:4], "outlook", "cuts", "firm")
    save_tokenizer(tmp_path / "fewer", fewer)
    whole = from_layers(str(tmp_path / "bert"), [0], 9, 2)
    part = from_layers(str(tmp_path / "bert"), [0], 7, 2, str(tmp_path / "fewer"))
    assert part.config.vocab_size == 7
    embedded = []
    for start in (whole, part):
        (ids,) = start.tokenizer.encode(["firm cuts outlook"])
        with torch.no_grad():
            embedded.append(Network(start.config, start.tensors).eval().embed(Batch.of([ids])))
    assert torch.allclose(embedded[0], embedded[1], atol=1e-5)
    save_tokenizer(tmp_path / "other", (*WORDS[:4], "zebra"))
    with pytest.raises(ConfigError, match="vocabulary: pieces of the start's tokenizer required, was 'zebra'"):
        from_layers(str(tmp_path / "bert"), [0], 4, 2, str(tmp_path / "other"))


def test_a_model_stored_in_8_bits_is_a_smaller_file_and_answers_alike(tmp_path: Path) -> None:
    text = Text(("Norvex lifts full-year outlook",))
    sizes, said = [], []
    os.umask(umask := os.umask(0))
    for stored in ("float16", "int8"):
        (tmp_path / stored).mkdir()
        outcome = train(job(tmp_path / stored, str(BUNDLED_FOLDER), stored=stored), Watch())
        sizes.append((outcome.chosen / WEIGHTS).stat().st_size)
        engine = Engine.load(EngineConfig(model=str(outcome.chosen), policy="fixed:1", device="cpu"))
        (encoded,) = engine.encoder.encode([text])
        assert encoded is not None
        runner = engine.runner()
        runner.submit([Request(0, encoded.token_ids)])
        said.append(torch.tensor(runner.step()[0].logits))
        modes = {path.stat().st_mode & 0o777 for path in outcome.chosen.iterdir()}
        assert modes == {0o666 & ~umask}  # so that the stage's own user can read what root has trained
    assert sizes[1] < 0.52 * sizes[0]
    assert torch.allclose(said[0], said[1], atol=0.3) and not torch.equal(said[0], said[1])


def test_from_scratch_nothing_of_the_start_is_kept_but_sizes_and_tokenizer(tmp_path: Path) -> None:
    """Each seed draws its own; the manifest does not name the start as weights."""
    outcome = train(job(tmp_path, str(BUNDLED_FOLDER), scratch=True, layers=2, seeds=(0, 1)), Watch())
    bundled, first, second = (load(folder) for folder in (BUNDLED_FOLDER, *outcome.folders))
    assert first.tokenizer.encode(["Profit rose 3 %"]) == bundled.tokenizer.encode(["Profit rose 3 %"])
    for name in ("embedding.words", "embedding.project.weight", "classifier.0.weight"):
        assert not torch.allclose(first.tensors[name].float(), bundled.tensors[name].float(), atol=1e-2)
        assert not torch.equal(first.tensors[name], second.tensors[name])
    assert first.manifest is not None
    assert first.manifest.ingredients[0].use == "geometry and tokenizer"


class Hub(http.server.SimpleHTTPRequestHandler):
    """Files of one model as the hub serves them: /me/tiny/resolve/main/FILE."""

    def send_head(self) -> object:  # type: ignore[override]
        repository, _, name = self.path.partition("/resolve/main/")
        path = Path(self.directory) / name
        if repository != "/me/tiny" or not name or not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.end_headers()
            return None
        content = path.read_bytes()
        self.send_response(200)
        for key, value in (
            ("ETag", f'"{len(content)}-{name}"'), ("X-Repo-Commit", "0" * 40), ("Content-Length", str(len(content))),
        ):  # fmt: skip
            self.send_header(key, value)
        self.end_headers()
        return path.open("rb")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(albert: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, directory=str(albert)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_name_brings_weights_and_tokenizer(hub: str, tmp_path: Path) -> None:
    """With nothing in the cache, by the command."""
    command = [sys.executable, "-m", "earlybird.stream.cli", "train", "--start", "me/tiny", "--epochs", "1"]
    command += ["--train", str(texts(tmp_path / "texts.jsonl")), "--output", str(tmp_path / "run")]
    there = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    done = subprocess.run(command, env=os.environ | there, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    manifest = load(tmp_path / "run" / "seed-0" / "model").manifest
    assert manifest is not None
    assert manifest.ingredients[0].name == "me/tiny"


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match="transformers cannot load it"):
        from_model(str(tmp_path))


def test_a_folder_without_a_tokenizer_is_refused(albert: Path, tmp_path: Path) -> None:
    """Transformers makes one up that knows no word; the stage and a training would read nothing but unknown pieces."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(albert / name, tmp_path)
    for reads in (from_model, lambda folder: load(Path(folder))):
        with pytest.raises(NotAModel, match=r"is its tokenizer\.json missing"):
            reads(str(tmp_path))


def test_texts_of_which_cleaning_leaves_nothing_are_refused(tmp_path: Path) -> None:
    """Before the first step."""
    rows = [{"text": f"https://t.co/{n}", "label": LABELS[n % 3]} for n in range(30)]
    file = tmp_path / "links.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with pytest.raises(DataError, match="a word in some text"):
        train(Job(str(BUNDLED_FOLDER), (file,), tmp_path / "run", dev=texts(tmp_path / "dev.jsonl")), Watch())
