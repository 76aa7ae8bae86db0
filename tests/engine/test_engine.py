"""Engine: the bundled model says what it always said, and its hashes move with what changes a verdict alone."""

import dataclasses
import re
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from earlybird.engine.config import EngineConfig, ModelConfig, hashed_geometry
from earlybird.engine.engine import BUNDLED_FOLDER, Engine
from earlybird.engine.errors import ConfigError, NotAModel, NotTrainedForExits
from earlybird.engine.manifest import MANIFEST, WEIGHTS, Manifest, TextProfile, file_sha256, read
from earlybird.engine.model import Elbert
from earlybird.engine.text.assembly import Text, assembly
from earlybird.engine.text.profiles import profile
from earlybird.engine.types import Request, Verdict
from earlybird.engine.weights import shapes

# Invented texts: label, exit layer, reason, probabilities (negative, neutral, positive) of the bundled model.
FROZEN = [
    (
        "Veltrix Robotics raises full-year guidance after record quarterly orders",
        "positive",
        1,
        "confidence",
        (0.00314, 0.00331, 0.99355),
    ),
    ("$VLTX smashes earnings, revenue up 41% year over year", "positive", 1, "confidence", (0.0006, 0.00127, 0.99814)),
    ("Norwind Energy cuts dividend and warns of weaker demand", "negative", 1, "confidence", (0.992, 0.00541, 0.00259)),
    (
        "Harbour & Pike files for bankruptcy protection, shares halted",
        "negative",
        1,
        "confidence",
        (0.98534, 0.01243, 0.00222),
    ),
    ("Norwind to report third-quarter results on 12 November", "neutral", 1, "confidence", (0.10168, 0.88471, 0.0136)),
    ("Veltrix appoints Maria Lund as chief financial officer", "neutral", 1, "confidence", (0.00191, 0.99677, 0.00132)),
    (
        "Regulator fines Quillbank EUR 120 million over money laundering failures",
        "negative",
        1,
        "confidence",
        (0.98853, 0.0083, 0.00317),
    ),
    ("Quillbank shares slip 2 % in thin trading", "negative", 1, "confidence", (0.99007, 0.0087, 0.00123)),
    (
        "RT @tapewatch: $QLB downgraded to sell at Marlowe Securities https://t.co/abc123",
        "negative",
        1,
        "confidence",
        (0.98484, 0.00961, 0.00555),
    ),
    (
        "Analysts at Marlowe lift Orrin Foods price target to $58 from $49",
        "positive",
        1,
        "confidence",
        (0.00461, 0.01259, 0.9828),
    ),
    ("Orrin Foods recalls 40,000 packs of soup", "negative", 1, "confidence", (0.9328, 0.05612, 0.01108)),
    (
        "Profit before taxes was EUR 4.0 mn, down from EUR 4.9 mn a year earlier",
        "negative",
        1,
        "confidence",
        (0.97571, 0.01444, 0.00984),
    ),
    (
        "Operating loss narrowed to $3 million from $11 million",
        "positive",
        1,
        "confidence",
        (0.00736, 0.01627, 0.97637),
    ),
    ("Not a good day for $ORRN holders", "negative", 1, "confidence", (0.94468, 0.01041, 0.04491)),
    ("The company operates 212 stores in nine countries.", "neutral", 1, "confidence", (0.01196, 0.97513, 0.01291)),
    ("Castellan Pharma's heart drug fails late-stage trial", "negative", 1, "confidence", (0.97737, 0.00578, 0.01684)),
    ("Castellan Pharma wins approval for heart drug", "positive", 1, "confidence", (0.00483, 0.02407, 0.97111)),
    (
        "Castellan Pharma to present heart drug data at conference",
        "neutral",
        1,
        "confidence",
        (0.00352, 0.99142, 0.00506),
    ),
    (
        "Merger talks between Harbour & Pike and Sundial called off",
        "neutral",
        1,
        "confidence",
        (0.05176, 0.92857, 0.01966),
    ),
    ("Sundial Media buys back shares worth $500 million", "neutral", 3, "last_layer", (0.0217, 0.49465, 0.48365)),
    ("Copper little changed ahead of inventory data", "neutral", 1, "confidence", (0.00769, 0.98208, 0.01023)),
    ("@bob is $SDL still a buy here?", "neutral", 3, "window", (0.06829, 0.62189, 0.30982)),
    ("Strike at Orrin's largest plant ends after wage deal", "positive", 2, "confidence", (0.08049, 0.02727, 0.89224)),
    (
        "Turnover rose but margins fell, and the board kept its outlook unchanged &amp; cautious",
        "neutral",
        3,
        "last_layer",
        (0.41626, 0.54471, 0.03903),
    ),
    (
        "Tenbrook Chips says it expects no material impact from the export rules",
        "neutral",
        1,
        "confidence",
        (0.00666, 0.86351, 0.12982),
    ),
    ("Tenbrook surges 18% premarket after buyout offer", "positive", 1, "confidence", (0.00183, 0.00301, 0.99516)),
]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.load(EngineConfig())


def judge(engine: Engine, texts: list[str]) -> list[Verdict]:
    """Verdicts in the order of the texts, through a new runner."""
    encoded = engine.encoder.encode([Text((text,)) for text in texts])
    work, said = engine.runner(), dict[int, Verdict]()
    work.submit([Request(number, each.token_ids) for number, each in enumerate(encoded) if each])
    while work.waiting or work.active:
        said |= {verdict.ticket: verdict for verdict in work.step()}
    return [said[number] for number in range(len(texts))]


def changed(folder: Path, manifest: Manifest) -> Path:
    """The bundled model under another manifest."""
    for path in BUNDLED_FOLDER.iterdir():
        if path.name != MANIFEST:
            (folder / path.name).symlink_to(path)
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return folder


@pytest.mark.parametrize("runner", ["packed", "reference"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_bundled_model_says_what_it_always_said(runner: str, deterministic: bool) -> None:
    """Label, exit and probabilities to 1e-4 on invented texts, whatever runs them."""
    engine = Engine.load(EngineConfig(runner=runner, deterministic=deterministic))  # type: ignore[arg-type]
    for verdict, (text, label, layer, reason, probs) in zip(
        judge(engine, [row[0] for row in FROZEN]), FROZEN, strict=True
    ):
        told = (engine.labels[verdict.label], verdict.exit_layer, verdict.exit_reason)
        assert told == (label, layer, reason), text
        assert verdict.probs == pytest.approx(probs, abs=1e-4), text


def test_engine_says_who_it_is(engine: Engine) -> None:
    """What a signal's `model` part is filled from."""
    manifest = read(BUNDLED_FOLDER)
    assert (engine.model_id, engine.model_sha256) == (manifest.id, manifest.weights_sha256)
    assert (engine.profile, engine.policy.spec) == ("natural-v3", "cwb:delta=0.5,window=2")
    assert (engine.labels, engine.languages) == (("negative", "neutral", "positive"), ("en",))
    assert (engine.max_layers, engine.max_tokens, engine.calibrated) == (3, 80, True)
    assert (engine.dtype, engine.device) == ("float32", "cpu")
    assert engine.knowledge_until_us == manifest.knowledge_until_us


def test_config_hash_moves_with_what_changes_a_verdict(engine: Engine) -> None:
    """Policy and max_tokens do; dtype, runner, slots, budget and determinism do not; spelling does not."""
    said = engine.config_hash
    assert len(said) == 16
    for same in (
        EngineConfig(dtype="float64"),
        EngineConfig(runner="reference", deterministic=False),
        EngineConfig(slots=3, token_budget=99),
        EngineConfig(policy="cwb:delta=0.50,window=2"),
    ):
        assert Engine.load(same).config_hash == said
    others = [EngineConfig(policy="full"), EngineConfig(policy="cwb:delta=0.51,window=2"), EngineConfig(max_tokens=79)]
    assert len({said, *(Engine.load(other).config_hash for other in others)}) == 4


def test_config_hash_of_the_bundled_model_is_pinned(engine: Engine) -> None:
    """Every recorded signal names it: whoever changes what the model is fed must mean to."""
    assert engine.config_hash == "ce67bd35ad597821"


V1 = {
    "profile": TextProfile(name="natural-v1", hash=profile("natural-v1").hash),
    "assembly": assembly("parts-v1").describe(),
    "policy": "cwb:delta=0.3,window=2",
    "temperature": 1.28,
}
V2 = {
    "profile": TextProfile(name="natural-v2", hash=profile("natural-v2").hash),
    "policy": "cwb:delta=0.5,window=2",
    "temperature": 1.0,
    "temperatures": (),
}


@pytest.mark.parametrize(("former", "layers", "said"), [(V1, 8, "6e1262a393b91151"), (V2, 3, "08a9a0964a3f9e8e")])
def test_config_hash_of_recorded_signals_is_still_reached(
    tmp_path: Path, former: dict[str, object], layers: int, said: str
) -> None:
    """A folder that names a former profile, assembly rule, policy and depth has the hash that its signals have."""
    manifest = read(BUNDLED_FOLDER)
    geometry = dataclasses.replace(manifest.geometry, layers=layers, groups=1)  # former models shared one layer
    folder = changed(tmp_path, manifest)
    own = load_file(BUNDLED_FOLDER / WEIGHTS)
    shared = {name.replace("layer.0.", "layer."): own[name] for name in own if not re.match(r"layer\.[12]\.", name)}
    (folder / WEIGHTS).unlink()
    save_file(shared, folder / WEIGHTS)
    update = {**former, "geometry": geometry, "weights_sha256": file_sha256(folder / WEIGHTS)}
    (folder / MANIFEST).write_text(manifest.model_copy(update=update).model_dump_json())
    assert Engine.load(EngineConfig(model=str(folder))).config_hash == said


def test_numerics_name_the_arithmetic(engine: Engine) -> None:
    """Equal for an equal engine, another in another dtype."""
    assert engine.numerics == Engine.load(EngineConfig()).numerics
    assert engine.numerics != Engine.load(EngineConfig(dtype="float64")).numerics


def test_threads_share_one_engine(engine: Engine) -> None:
    """Runners of several threads over the same weights say what one says alone."""
    texts = [row[0] for row in FROZEN]
    expected = judge(engine, texts)
    said: list[list[Verdict]] = []
    threads = [threading.Thread(target=lambda: said.append(judge(engine, texts))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [expected] * 3


def test_bfloat16_answers_in_float32() -> None:
    """Exits are computed in float32 whatever the states are."""
    engine = Engine.load(EngineConfig(dtype="bfloat16", deterministic=False))
    assert engine.model.dtype == torch.bfloat16
    hidden = engine.model.embed(torch.tensor([2, 5, 3]), [3])
    assert engine.model.classify(engine.model.advance(hidden, [3], [1]), [3], [1]).logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"policy": "cwb"}, "was 'cwb'"),
        ({"policy": "fixed:4"}, "3 layers"),
        ({"max_tokens": 81}, "80 positions, was 81"),
        ({"max_tokens": 2}, "max_tokens: at least 3 required, was 2"),
        ({"slots": 0}, "slots: at least 1 required, was 0"),
        ({"slots": True}, "slots: at least 1 required, was True"),
        ({"token_budget": 0}, "token_budget"),
        ({"dtype": "float8"}, "dtype: one of float32, float64, bfloat16, float16, int8 required, was 'float8'"),
        ({"runner": "fast"}, "runner: one of auto, packed, resident, reference required, was 'fast'"),
        ({"runner": "packed", "tiers": ((4, 128, 1),)}, "tiers: only a resident runner has them, .* runner packed"),
        (
            {"runner": "reference", "compile": True},
            "compile: only a resident runner has steps to compile, .* reference",
        ),
        ({"device": "cpu", "tiers": ((4, 128, 1),)}, "tiers: only a resident runner has them, .* auto, device cpu"),
        ({"dtype": "int8", "compile": True}, "compile: only a resident runner .* device auto, dtype int8"),
        (
            {"runner": "resident", "device": "cpu", "compile": True},
            "compile: steps are compiled on CUDA only, .* device cpu",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object], reason: str) -> None:
    """The error names the setting and the value."""
    with pytest.raises(ConfigError, match=reason):
        Engine.load(EngineConfig(**settings))  # type: ignore[arg-type]


def test_untrained_exits_are_refused_by_the_manifest(tmp_path: Path) -> None:
    """A manifest that says the depths were not trained counts as none; full depth still runs."""
    honest = read(BUNDLED_FOLDER).model_copy(update={"trained_for_exits": False})
    folder = changed(tmp_path, honest)
    with pytest.raises(NotTrainedForExits, match="its manifest says it was not"):
        Engine.load(EngineConfig(model=str(folder)))
    assert Engine.load(EngineConfig(model=str(folder), policy="full")).policy.spec == "full"


def test_folder_that_is_no_model_is_refused() -> None:
    """A mistyped path is named, nothing is downloaded."""
    with pytest.raises(NotAModel, match="was no/such/model"):
        Engine.load(EngineConfig(model="no/such/model"))


def test_each_depth_may_have_its_own_classifier() -> None:
    """Slots at different depths are read by different rows of the same batch."""
    config = ModelConfig(
        vocab_size=20, embedding_size=8, hidden_size=8, heads=2, ffn_size=16, layers=3, max_positions=10,
        embedding="project_then_norm", pool="mean", activation="gelu", layer_norm_eps=1e-12, classifiers="per_layer",
    )  # fmt: skip
    rng = torch.Generator().manual_seed(1)
    tensors = {name: torch.randn(shape, generator=rng) for name, shape in shapes(config).items()}
    model = Elbert(config, tensors, temperature=2.0)
    hidden = torch.randn(7, 8, generator=rng)
    logits = model.classify(hidden, [3, 4], [3, 1]).logits
    for slot, (states, depth) in enumerate([(hidden[:3], 3), (hidden[3:], 1)]):
        weight, bias = tensors[f"classifier.{depth - 1}.weight"], tensors[f"classifier.{depth - 1}.bias"]
        assert torch.allclose(logits[slot], (weight @ states.mean(dim=0) + bias) / 2.0, atol=1e-6)


def test_texts_attend_to_themselves_alone(engine: Engine) -> None:
    """Packed beside others, a text's states are those it has alone."""
    lengths = [3, 1, 5]
    ids = torch.tensor([2, 40, 3, 7, 2, 90, 91, 92, 3])
    packed = engine.model.advance(engine.model.embed(ids, lengths), lengths, [1] * len(lengths))
    for part, states in zip(torch.split(ids, lengths), torch.split(packed, lengths), strict=True):
        alone = engine.model.advance(engine.model.embed(part, [len(part)]), [len(part)], [1])
        assert torch.allclose(states, alone, atol=2e-6)


def test_new_fields_at_their_defaults_change_no_recorded_hash() -> None:
    """A config_hash names recorded signals: what it covers of a geometry is pinned, field by field."""
    config = ModelConfig(20, 8, 8, 2, 16, 3, 10, "project_then_norm", "mean", "gelu", 1e-12)
    assert hashed_geometry(config) == {
        "vocab_size": 20,
        "embedding_size": 8,
        "hidden_size": 8,
        "heads": 2,
        "ffn_size": 16,
        "layers": 3,
        "max_positions": 10,
        "embedding": "project_then_norm",
        "pool": "mean",
        "activation": "gelu",
        "layer_norm_eps": "1e-12",
        "n_labels": 3,
        "classifiers": "shared",
    }
    assert hashed_geometry(dataclasses.replace(config, learned_exits="shared"))["learned_exits"] == "shared"
