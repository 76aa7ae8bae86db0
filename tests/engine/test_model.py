"""Elbert against transformers: a Hugging Face ALBERT gives the same logits at full depth."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AlbertConfig, AlbertForSequenceClassification

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError, NotAModel, NotTrainedForExits
from earlybird.engine.text.assembly import Text
from earlybird.engine.types import Request
from small_albert import WORDS, save_tokenizer

LENGTHS = [1, 2, 3, 5, 9, 16, 31, 40]
LABELS = {0: "positive", 1: "Negative", 2: "neutral"}


def save(folder: Path, dtype: torch.dtype = torch.float32, **geometry: object) -> AlbertForSequenceClassification:
    """A random ALBERT with wide-awake weights and a word tokenizer, as save_pretrained leaves them."""
    settings: dict[str, Any] = {
        "vocab_size": 120, "embedding_size": 16, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64,
        "num_hidden_layers": 5, "max_position_embeddings": 48, "initializer_range": 0.2, "id2label": LABELS,
    }  # fmt: skip
    torch.manual_seed(3)
    model = AlbertForSequenceClassification(AlbertConfig(**{**settings, **geometry}))
    torch.nn.Module.to(model, dtype).eval()  # theirs is wrapped, with the wrong types
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "LayerNorm" in name or "layer_norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # their fresh values would hide a mix-up
    model.save_pretrained(folder)
    save_tokenizer(folder, [*WORDS[:4], "Acme", "rises", "falls"])
    return model


def texts(vocab_size: int, lengths: list[int]) -> list[list[int]]:
    rng = torch.Generator().manual_seed(5)
    return [torch.randint(vocab_size, (length,), generator=rng).tolist() for length in lengths]


def theirs(model: AlbertForSequenceClassification, ids: list[list[int]]) -> torch.Tensor:
    """Logits of each text alone, in our label order."""
    with torch.inference_mode():
        rows = torch.cat([model(torch.tensor([row])).logits for row in ids])
    return rows[:, [1, 2, 0]]


def ours(engine: Engine, ids: list[list[int]]) -> torch.Tensor:
    """Logits of all texts in one packed batch at full depth."""
    lengths = [len(row) for row in ids]
    hidden = engine.model.embed(torch.tensor([number for row in ids for number in row]), lengths)
    for depth in range(1, engine.max_layers + 1):
        hidden = engine.model.advance(hidden, lengths, [depth] * len(lengths))
    return engine.model.classify(hidden, lengths, [engine.max_layers] * len(lengths)).logits


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("act", ["gelu_new", "gelu"])
def test_float64_logits_are_those_of_transformers(tmp_path: Path, act: str, deterministic: bool) -> None:
    """Within 1e-9, every length, all texts packed together, label order mapped."""
    model = save(tmp_path, torch.float64, hidden_act=act)
    engine = Engine.load(EngineConfig(model=str(tmp_path), dtype="float64", deterministic=deterministic))
    ids = texts(120, LENGTHS)
    expected = theirs(model, ids)
    assert expected.std() > 0.1
    assert torch.allclose(ours(engine, ids), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("groups", [2, 3, 5])
def test_each_pass_takes_the_layer_of_its_group(tmp_path: Path, groups: int) -> None:
    """As transformers shares five passes out among layers with weights of their own; packed, texts at any depth."""
    model = save(tmp_path, torch.float64, num_hidden_groups=groups)
    engine = Engine.load(EngineConfig(model=str(tmp_path), dtype="float64"))
    ids = texts(120, LENGTHS)
    expected = theirs(model, ids)
    assert torch.allclose(ours(engine, ids), expected, rtol=0, atol=1e-9)
    runner = engine.runner()
    found: dict[int, tuple[float, ...]] = {}
    for ticket, row in enumerate(ids):  # one text a step, so that every step has several depths
        runner.submit([Request(ticket, tuple(row))])
        found |= {verdict.ticket: verdict.logits for verdict in runner.step()}
    while runner.active:
        found |= {verdict.ticket: verdict.logits for verdict in runner.step()}
    assert torch.allclose(torch.tensor([found[n] for n in range(len(ids))]), expected.float(), rtol=0, atol=1e-5)


def test_float32_logits_are_those_of_transformers(tmp_path: Path) -> None:
    """Within 2e-5 at tiny geometry."""
    model = save(tmp_path)
    engine = Engine.load(EngineConfig(model=str(tmp_path)))
    ids = texts(120, LENGTHS)
    assert torch.allclose(ours(engine, ids), theirs(model, ids), rtol=0, atol=2e-5)


def test_float32_logits_at_base_geometry_are_those_of_transformers(tmp_path: Path) -> None:
    """Within 2e-5 with ALBERT-base's sizes and 12 layers (a small vocabulary keeps the file small)."""
    model = save(
        tmp_path, embedding_size=128, hidden_size=768, num_attention_heads=12, intermediate_size=3072,
        num_hidden_layers=12, max_position_embeddings=64, initializer_range=0.03,
    )  # fmt: skip
    engine = Engine.load(EngineConfig(model=str(tmp_path)))
    ids = texts(120, [1, 7, 33])
    expected = theirs(model, ids)
    assert expected.std() > 0.1
    assert torch.allclose(ours(engine, ids), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("runner", ["packed", "reference"])
def test_engine_runs_an_albert_folder_at_full_depth(tmp_path: Path, runner: str) -> None:
    """From text to verdict; nothing is claimed that a manifest would have to say."""
    model = save(tmp_path)
    engine = Engine.load(EngineConfig(model=str(tmp_path), runner=runner))  # type: ignore[arg-type]
    (encoded,) = engine.encoder.encode([Text(("Acme rises",))])
    assert encoded is not None and encoded.token_ids == (2, 4, 5, 3)
    work = engine.runner()
    work.submit([Request(1, encoded.token_ids)])
    verdicts = []
    while work.waiting or work.active:
        verdicts += work.step()
    assert [each.exit_layer for each in verdicts] == [5]
    assert torch.allclose(torch.tensor(verdicts[0].logits), theirs(model, [[2, 4, 5, 3]])[0], rtol=0, atol=2e-5)
    assert (engine.calibrated, engine.languages, engine.knowledge_until_us) == (False, (), None)
    assert (engine.policy.spec, engine.max_tokens, engine.max_layers) == ("full", 48, 5)


@pytest.mark.parametrize("policy", ["cwb:delta=0.3,window=2", "fixed:2"])
def test_exits_are_refused_without_a_manifest(tmp_path: Path, policy: str) -> None:
    """A plain fine-tuned ALBERT was taught to answer at its last layer only; the error says so."""
    save(tmp_path)
    with pytest.raises(NotTrainedForExits, match="no manifest that says so"):
        Engine.load(EngineConfig(model=str(tmp_path), policy=policy))
    assert Engine.load(EngineConfig(model=str(tmp_path), policy="fixed:5")).policy.spec == "full"


def test_unreadable_sentencepiece_file_says_what_it_needs(tmp_path: Path) -> None:
    """Older folders hold spiece.model only, and transformers' own message names the wrong package."""
    save(tmp_path)
    for path in tmp_path.glob("tokenizer*"):
        path.unlink()
    (tmp_path / "spiece.model").write_bytes(b"garbage")
    with pytest.raises(NotAModel, match="needs the packages sentencepiece and protobuf"):
        Engine.load(EngineConfig(model=str(tmp_path)))


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    """The limit is the model's; fewer are allowed and change the configuration's hash."""
    save(tmp_path)
    with pytest.raises(ConfigError, match="48 positions, was 49"):
        Engine.load(EngineConfig(model=str(tmp_path), max_tokens=49))
    short, whole = (Engine.load(EngineConfig(model=str(tmp_path), max_tokens=limit)) for limit in (20, None))
    assert short.config_hash != whole.config_hash
