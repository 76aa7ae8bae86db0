"""Augmentation: new texts with old labels, for the training part only, computed once."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sentencepiece
import torch
import transformers

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.errors import ConfigError, NotAModel
from earlybird.engine.training.augmentation import Augmentation, augmentation, augmented
from earlybird.engine.training.data import Example, hashes
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Recipe
from earlybird.engine.training.train import train

EXAMPLES = [
    Example(f"{name} {event}", label)
    for name in ("Norvex", "Veltrix Robotics", "Harbour Foods")
    for event, label in (
        ("lifts outlook after record orders", 2),
        ("cuts dividend and warns of weaker demand", 0),
        ("names Anna Berg as chair", 1),
        ("shares fall as profit misses estimates", 0),
    )
]


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MarianMT model of 60 pieces and random weights: it answers with nonsense, another one for other texts."""
    folder = tmp_path_factory.mktemp("marian")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([example.text for example in EXAMPLES]),
        model_prefix=str(folder / "pieces"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "pieces.model"))
    names = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
    vocabulary = dict.fromkeys(["</s>", "<unk>", *(name for name in names if name != "<s>"), "<pad>"])
    numbers = {name: number for number, name in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(numbers), "utf-8")
    (folder / "source.spm").write_bytes((folder / "pieces.model").read_bytes())
    (folder / "target.spm").write_bytes((folder / "pieces.model").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"source_lang": "en", "target_lang": "xx"}), "utf-8")
    config = transformers.MarianConfig(
        vocab_size=len(numbers),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=24,
        pad_token_id=numbers["<pad>"],
        eos_token_id=0,
        decoder_start_token_id=numbers["<pad>"],
        forced_eos_token_id=0,
    )
    torch.manual_seed(0)
    model = transformers.MarianMTModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.normal_(0, 1.0)
    model.save_pretrained(folder)
    return folder


def test_back_translation_makes_other_texts_with_the_same_labels(
    marian: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a text's own label; none twice; the same from the cache, for which no model is loaded."""
    found = augmentation(f"back-translation={marian},{marian}")
    new = augmented(found, EXAMPLES, tmp_path)
    assert len(new) > 1
    (cache,) = tmp_path.iterdir()
    lines = [json.loads(line) for line in cache.read_text("utf-8").split("\n") if line]
    made = {(text, e.label) for e, line in zip(EXAMPLES, lines, strict=True) for text in line["new"]}
    assert {(example.text, example.label) for example in new} <= made
    assert len({example.text for example in new}) == len(new)
    again = augmentation(f"back-translation={marian},{marian}")
    monkeypatch.setattr(again, "batches", lambda _: pytest.fail("the cache was not used"))
    assert augmented(again, EXAMPLES, tmp_path) == new


def test_other_models_have_another_cache(marian: Path, tmp_path: Path) -> None:
    """By the content of the folders, not by their names."""
    other = tmp_path / "other"
    other.mkdir()
    for path in marian.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    first, copy = (augmentation(f"back-translation={folder},{marian}").key for folder in (marian, other))
    assert first == copy
    (other / "generation_config.json").write_text("{}", "utf-8")
    assert augmentation(f"back-translation={other},{marian}").key != first


def test_a_folder_without_marian_is_refused(tmp_path: Path) -> None:
    """With its name and the reason."""
    with pytest.raises(NotAModel, match="cannot load it as MarianMT"):
        augmented(augmentation(f"back-translation={tmp_path},{tmp_path}"), EXAMPLES, tmp_path / "cache")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module of the user with functions of every kind."""
    (tmp_path / "mine_to_augment.py").write_text(
        "def louder(text):\n    return [text + ' indeed', '', text.upper(), text + ' indeed']\n"
        "def one(text):\n    return text\n"
        "def broken(text):\n    return 1 / 0\n"
        "number = 3\n",
        "utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("mine_to_augment", None)


def test_a_function_of_the_user(mine: Path) -> None:
    """Empty texts, equal ones and repeated ones are left out."""
    new = augmented(augmentation("mine_to_augment:louder"), EXAMPLES, mine / "cache")
    assert new == [Example(f"{example.text} indeed", example.label) for example in EXAMPLES]


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("mine_to_augment:one", "must return a list of texts"),
        ("mine_to_augment:broken", "failed on .* ZeroDivisionError"),
        ("mine_to_augment:number", "a function required"),
        ("mine_to_augment:missing", "cannot be imported"),
        ("no_such_module:f", "PYTHONPATH"),
        ("louder", "module:function required"),
        ("back-translation=only-one", "two MarianMT models required"),
        ("back-translation=a,b,c", "two MarianMT models required"),
    ],
)
def test_what_cannot_augment_is_refused(mine: Path, spec: str, reason: str) -> None:
    """With what is wrong."""
    with pytest.raises(ConfigError, match=reason):
        augmented(augmentation(spec), EXAMPLES, mine / "cache")


class Counted:
    """Appends a word, counts the texts it was asked for, and stops as if killed after some."""

    name, key = "counted", "c" * 64

    def __init__(self, stop: int = 1000) -> None:
        self.asked: list[str] = []
        self._stop = stop

    def batches(self, texts: Sequence[str]) -> Iterator[list[Sequence[str]]]:
        for text in texts:
            if len(self.asked) == self._stop:
                raise KeyboardInterrupt
            self.asked.append(text)
            yield [[f"{text} again"]]


def test_an_interrupted_augmentation_goes_on(tmp_path: Path) -> None:
    """Also where the kill cut off a line: that text is asked for again, no other one."""
    first: Augmentation = Counted(stop=5)
    with pytest.raises(KeyboardInterrupt):
        augmented(first, EXAMPLES, tmp_path)
    (cache,) = tmp_path.iterdir()
    cache.write_bytes(cache.read_bytes()[:-10])
    second = Counted()
    new = augmented(second, EXAMPLES, tmp_path)
    assert second.asked == [example.text for example in EXAMPLES[4:]]
    assert new == [Example(f"{example.text} again", example.label) for example in EXAMPLES]
    third = Counted()
    assert augmented(third, EXAMPLES, tmp_path) == new and not third.asked


def test_only_the_training_part_is_augmented(mine: Path) -> None:
    """A run's dev and calibration texts stay as they are, and no new text equals one of them."""
    phrases = ("cuts outlook", "names chairman", "lifts outlook")
    texts = [f"Firm{number} {phrases[number % 3]} today" for number in range(60)]
    texts += [f"{text} indeed" for text in texts]  # so that new texts meet given ones
    labels = ("negative", "neutral", "positive")
    lines = [json.dumps({"text": text, "label": labels[number % 3]}) for number, text in enumerate(texts)]
    (mine / "texts.jsonl").write_text("\n".join(lines), "utf-8")
    job = Job(
        start=str(BUNDLED_FOLDER),
        train=(mine / "texts.jsonl",),
        output=mine / "run",
        augment="mine_to_augment:louder",
        augment_cache=mine / "cache",
        layers=2,
        recipe=Recipe(epochs=1, learning_rate=1e-4),
    )
    train(job, Watch())
    sizes = {name: part["texts"] for name, part in json.loads((mine / "run" / "data.json").read_text()).items()}
    (cache,) = (mine / "cache").iterdir()
    read = [json.loads(line) for line in cache.read_text("utf-8").split("\n") if line]
    assert sizes["train"] == len(read) == 96 and 0 < sizes["augmented"] < 96
    kept = [json.loads(line)["text"] for line in (mine / "run" / "calibration.jsonl").read_text().splitlines()]
    made = hashes([Example(text) for line in read for text in line["new"]])
    assert made & hashes([Example(text) for text in kept])  # made, and then left out:
    seen = (mine / "run" / "seen.bin").read_bytes()
    assert not any(number.to_bytes(8, sys.byteorder) in seen for number in hashes([Example(text) for text in kept]))
