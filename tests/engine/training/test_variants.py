"""Variants of texts: words by a teacher's neighbours, the rest as it was."""

import json
from pathlib import Path

import pytest
import torch

from earlybird.engine.manifest import LABELS
from earlybird.engine.training.data import normal_form, read_examples, split, without
from earlybird.engine.training.encoder import save_teacher, start_teacher
from earlybird.engine.training.variants import main, neighbours
from small_bert import save_bert

POST = "RISES and Falls: profit at @bank_of https://t.co/profit $AAPL"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of one small layer, saved as `earlybird teach` saves; "profit" and "loss" are neighbours."""
    folder = save_bert(tmp_path_factory.mktemp("encoder"), hidden_size=16, num_hidden_layers=1, intermediate_size=16)
    started = start_teacher(folder, "natural-v3", 80, 0.0, 0)
    profit, loss = (started.reader.tokenizer.pieces.token_to_id(word) for word in ("profit", "loss"))
    with torch.no_grad():
        rows = started.network.encoder.get_input_embeddings().weight
        rows[loss] = rows[profit] * 1.01
    return save_teacher(folder / "teacher", started)


def written(path: Path, texts: list[str]) -> Path:
    rows = (json.dumps({"text": text, "label": LABELS[n % 3]}) for n, text in enumerate(texts))
    path.write_text("\n".join(rows), "utf-8")
    return path


def lines(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]


def posts(name: str, count: int) -> list[str]:
    return [f"@{name}{n} profit rises while shares of the market fall" for n in range(count)]


def test_neighbours_are_the_nearest_words(teacher: Path) -> None:
    """The nearest first, never the word itself; what is no single piece has none."""
    found = neighbours(teacher, {"profit", "shares", "qqzxj"})
    assert found.keys() == {"profit", "shares"}
    assert found["profit"][0] == "loss"
    assert all(len(set(others) - {word}) == 8 for word, others in found.items())


def test_links_and_handles_stay_and_case_is_kept(teacher: Path, tmp_path: Path) -> None:
    """With every word replaced; cashtags become others of the texts about half of the time."""
    file = written(tmp_path / "texts.jsonl", [POST, "Shares of $TSLA fall", "Market of $F rises"])
    assert main([str(teacher), str(tmp_path / "out"), f"{file}=40", "--share", "1"]) == 0
    found = [text.split() for text in lines(tmp_path / "out") if "@bank_of" in text]
    assert len(found) > 30
    for words in found:
        assert words[0].isupper() and words[1].islower() and words[2].istitle() and words[3].islower()
        assert words[4:7] == [words[4], "@bank_of", "https://t.co/profit"] and words[2].endswith(":")
        assert not {"RISES", "Falls:", "profit"} & set(words[:4])
    tags = [words[7] for words in found]
    assert set(tags) == {"$AAPL", "$TSLA", "$F"} and len(found) / 3 < tags.count("$AAPL")


def test_a_seed_gives_one_file_without_texts_held_out(teacher: Path, tmp_path: Path) -> None:
    """Texts of dev and of the calibration part of `train` get no variant; no two texts are equal."""
    many, few = written(tmp_path / "many.jsonl", posts("Firm", 30)), written(tmp_path / "few.jsonl", posts("Corp", 9))
    dev = written(tmp_path / "dev.jsonl", [f"{text}!" for text in posts("Firm", 5)])
    options = ["--copies", "1", "--dev", str(dev), "--calibration", "0.2", "--seed"]
    for name, seed in (("one", "3"), ("again", "3"), ("other", "4")):
        assert main([str(teacher), str(tmp_path / name), f"{many}=3", str(few), str(many), *options, seed]) == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "again").read_bytes() != (tmp_path / "other").read_bytes()
    found = lines(tmp_path / "one")
    labelled = [each for file in (many, few, many) for each in read_examples(file)]
    train, calibration = split(without(labelled, read_examples(dev)), (0.8, 0.2), 3)
    assert calibration
    assert {text.split()[0] for text in found} == {each.text.split()[0] for each in train}
    assert max(sum(text.startswith(f"@Firm{n} ") for text in found) for n in range(30)) > 1
    assert all(sum(text.startswith(f"@Corp{n} ") for text in found) <= 1 for n in range(9))
    forms = [normal_form(text) for text in (*found, *posts("Firm", 30), *posts("Corp", 9))]
    assert len(set(forms)) == len(forms)


def test_what_is_unusable_is_refused(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line with its reason, before anything is written."""
    file, out = str(written(tmp_path / "texts.jsonl", posts("Firm", 6))), str(tmp_path / "out")
    for arguments, reason in (
        ([str(tmp_path), out, file], f"{tmp_path}: no teacher"),
        ([str(teacher), out, f"{file}.gz=2"], "texts.jsonl.gz: cannot be read"),
        ([str(teacher), out, file, "--share", "2"], "share, calibration: 0 to 1 required, was 2.0"),
        ([str(teacher), str(tmp_path / "no" / "out"), file], "out: cannot be written"),
    ):
        assert main(arguments) == 2
        *_, last = capsys.readouterr().err.splitlines()
        assert last.startswith("variants: ") and reason in last
    assert not Path(out).exists()
