"""Soft targets of Hugging Face classifiers: their own answers in our label order, the mean of several, cached."""

from pathlib import Path

import pytest
import torch
from transformers import AlbertForSequenceClassification, AutoTokenizer

from earlybird.engine.errors import NotAModel
from earlybird.engine.training.targets import mean_of_teachers
from earlybird.engine.training.teachers import soft_targets
from small_albert import save_albert

TEXTS = ["firm cuts outlook", "firm lifts", "outlook names firm outlook"]


def theirs(folder: Path) -> torch.Tensor:
    """Logits (3, C) text by text, without padding, as negative, neutral, positive."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AlbertForSequenceClassification.from_pretrained(folder)
    with torch.no_grad():
        rows = [model.eval()(**tokenizer(text, return_tensors="pt")).logits[0, [1, 2, 0]] for text in TEXTS]
    return torch.stack(rows)


def test_several_classifiers_are_one_teacher(tmp_path: Path) -> None:
    """The mean of their logits; the second time nothing is computed."""
    one, other = save_albert(tmp_path / "one", 1), save_albert(tmp_path / "other", 2)
    told = list[int]()
    names, cache = [str(one), str(other)], tmp_path / "cache"
    found = soft_targets(names, TEXTS, cache, None, lambda _, done, __: told.append(done))
    logits = (theirs(one) + theirs(other)) / 2
    assert torch.allclose(found, logits.softmax(dim=-1), atol=1e-5)
    assert told == [3, 3]
    assert torch.equal(soft_targets(names, TEXTS, cache, None, lambda *_: told.append(0)), found)
    assert told == [3, 3]


def test_a_text_that_occurs_several_times_is_labelled_once(tmp_path: Path) -> None:
    labelled = list[int]()
    names = [str(save_albert(tmp_path / "one", 1))]
    twice = [TEXTS[2], *TEXTS, TEXTS[2]]
    found = soft_targets(names, twice, tmp_path / "cache", None, lambda _, done, __: labelled.append(done))
    assert labelled == [3]
    assert torch.allclose(found, theirs(tmp_path / "one").softmax(dim=-1)[[2, 0, 1, 2, 2]], atol=1e-5)


def test_a_teacher_that_was_trained_again_is_asked_again(tmp_path: Path) -> None:
    """Its path is the same, its files are not."""
    folder, cache = tmp_path / "teacher", tmp_path / "cache"
    first = soft_targets([str(save_albert(folder, 1))], TEXTS, cache, None, lambda *_: None)
    second = soft_targets([str(save_albert(folder, 2))], TEXTS, cache, None, lambda *_: None)
    assert not torch.equal(first, second)
    assert torch.allclose(second, theirs(folder).softmax(dim=-1), atol=1e-5)


def test_a_classifiers_own_labels_are_mapped_or_refused(tmp_path: Path) -> None:
    """Before a text is computed."""
    folder = save_albert(tmp_path / "moods", 3, ("Bullish", "Bearish", "flat"))
    labels = {"bullish": "positive", "bearish": "negative", "flat": "neutral"}
    found = soft_targets([str(folder)], TEXTS, tmp_path / "cache", labels, lambda *_: None)
    assert torch.allclose(found, theirs(folder).softmax(dim=-1), atol=1e-5)
    with pytest.raises(NotAModel, match="map them with --labels"):
        soft_targets([str(folder)], TEXTS, tmp_path / "other", None, lambda *_: None)


def test_a_teachers_offset_does_not_count() -> None:
    """Logits are known up to a constant: (2, 0, 0) and (9, 9, 12) have the mean (1, 0, 1.5) but for one."""
    found = mean_of_teachers([torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([[9.0, 9.0, 12.0]])])
    assert found[0].tolist() == pytest.approx(torch.tensor([1.0, 0.0, 1.5]).softmax(dim=-1).tolist(), abs=1e-6)
