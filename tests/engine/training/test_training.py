"""Training: the network is the engine's model, strategies move what they should, losses are the papers' equations."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from earlybird.engine.adapters import adapter_shapes
from earlybird.engine.config import AdapterConfig, EngineConfig, ModelConfig
from earlybird.engine.engine import BUNDLED_FOLDER, Engine
from earlybird.engine.errors import ConfigError, DataError
from earlybird.engine.exits.policy import Heads
from earlybird.engine.exits.spec import parse
from earlybird.engine.model import Elbert
from earlybird.engine.slots.cpu_linear import linears
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.reference import trace
from earlybird.engine.training.data import Columns, Example, normal_form, read_examples, split, stratified, without
from earlybird.engine.training.job import Job, Watch
from earlybird.engine.training.loop import Dataset, Epoch, Recipe, Training
from earlybird.engine.training.metrics import calibration_error, macro_f1, scores
from earlybird.engine.training.network import Batch, Network, initial_tensors
from earlybird.engine.training.start import Start, factorised, from_model, reshaped
from earlybird.engine.training.strategies import STRATEGIES, ElbertWeights, SelfDistillation, phases
from earlybird.engine.training.targets import Distillation, Targets, exit_loss
from earlybird.engine.training.train import train
from earlybird.engine.types import Request
from earlybird.engine.weights import shapes

SMALL = ModelConfig(97, 16, 32, 2, 64, 4, 40, "norm_then_project", "first", "gelu_new", 1e-12)
LATE = dataclasses.replace(SMALL, embedding="project_then_norm", pool="mean", activation="gelu")
FULL = dataclasses.replace(
    LATE, classifiers="per_layer", learned_exits="per_layer", adapters=AdapterConfig(8, "ffn", "attention")
)
CONFIGS = {
    "albert": SMALL,
    "late-norm": LATE,
    "per-layer": FULL,
    "groups": dataclasses.replace(LATE, groups=LATE.layers),
    **{
        f"{placement}-{module}": dataclasses.replace(LATE, adapters=AdapterConfig(8, placement, module))
        for placement in ("attention", "ffn", "sequential")
        for module in ("identity", "attention", "convolution", "mlp")
    },
}


def lively(config: ModelConfig, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights wide enough for outputs that differ, adapters included."""
    rng = torch.Generator().manual_seed(seed)
    tensors = initial_tensors(config, rng, std=0.3)
    return {
        name: torch.randn(tensor.shape, generator=rng) * 0.3 if ".up." in name else tensor
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_the_network_is_the_engines_model(name: str, hostile: Callable[..., Any], drain: Callable[..., Any]) -> None:
    """Padded batches with gradients, packed slots and one text at a time say the same at every depth."""
    config = CONFIGS[name]
    tensors = lively(config)
    network = Network(config, tensors).eval()
    model = Elbert(config, tensors, factory=linears(deterministic=False))
    requests: list[Request] = hostile("mixed", 12)
    with torch.no_grad():
        heads = network(Batch.of([request.token_ids for request in requests]))
    for row, request in enumerate(requests):
        alone = trace(model, parse("full", config.layers), request)
        theirs = torch.stack([head.logits[row] for head in heads])
        assert torch.allclose(alone.logits, theirs, atol=1e-4)
    policy = parse("cwb:delta=0.6,window=2", config.layers)
    for verdict in drain(Packed(model, policy, 3, 60), requests):
        assert torch.allclose(
            torch.tensor(verdict.logits), heads[verdict.exit_layer - 1].logits[verdict.ticket], atol=1e-4
        )
    if config.learned_exits != "none":
        hidden = model.embed(torch.tensor(requests[0].token_ids), [len(requests[0].token_ids)])
        hidden = model.advance(hidden, [len(hidden)], [1])
        said, expected = model.classify(hidden, [len(hidden)], [1]).certainty, heads[0].certainty
        assert said is not None and expected is not None
        assert torch.allclose(said, expected[:1], atol=1e-5)


def test_adapters_with_a_zero_last_map_change_nothing() -> None:
    """A training starts from the model as it was."""
    plain = lively(LATE)
    config = dataclasses.replace(LATE, adapters=AdapterConfig(8))
    tensors = initial_tensors(config, torch.Generator().manual_seed(1)) | plain
    batch = Batch.of([(1, 2, 3), (4, 5)])
    with torch.no_grad():
        for ours, theirs in zip(Network(config, tensors)(batch), Network(LATE, plain)(batch), strict=True):
            assert torch.equal(ours.logits, theirs.logits)


@pytest.mark.parametrize(
    ("module", "expected"),
    [("identity", 617_856), ("attention", 669_312), ("convolution", 631_296), ("mlp", 630_528)],
)
def test_parameter_counts_are_table_2_of_pf_berxit(module: str, expected: int) -> None:
    """ALBERT-base-v2: 11,683,584 parameters, 18,456 of classifiers for two labels, 9,228 of learned exits; adapters.

    The published total of the backbone includes its token types, which our format adds to the positions.
    """
    adapters = AdapterConfig(32, "ffn", module)  # type: ignore[arg-type]
    config = ModelConfig(
        30_000,
        128,
        768,
        12,
        3072,
        12,
        512,
        "norm_then_project",
        "first",
        "gelu_new",
        1e-12,
        2,
        "per_layer",
        "per_layer",
        adapters,
    )
    counts = {name: math.prod(shape) for name, shape in shapes(config).items()}
    assert sum(count for name, count in counts.items() if name.startswith("adapter.")) == expected
    assert sum(math.prod(shape) for shape in adapter_shapes(adapters, 768).values()) * 12 == expected
    assert sum(count for name, count in counts.items() if name.startswith("classifier.")) == 18_456
    assert sum(count for name, count in counts.items() if name.startswith("learned_exit.")) == 9_228
    token_types = 2 * 128
    backbone = sum(c for n, c in counts.items() if not n.startswith(("adapter.", "classifier.", "learned_exit.")))
    assert backbone + token_types == 11_683_584
    assert backbone + token_types + 18_456 + 9_228 + expected == 11_711_268 + expected


def test_elberts_loss_weights_by_hand() -> None:
    """Equation 2 at its start: 3 sigmoid(4) = 2.946, so that the last of 4 exits weighs 1.054; they add up to 4."""
    loss = ElbertWeights(4)
    sigmoid = 1 / (1 + math.exp(-4))
    assert loss.weights().tolist() == pytest.approx([sigmoid] * 3 + [4 - 3 * sigmoid], abs=1e-6)
    heads = [Heads(torch.tensor([[float(depth), 0.0, 0.0]])) for depth in range(4)]
    each = [math.log(math.exp(depth) + 2) - depth for depth in range(4)]
    expected = sum(weight * value for weight, value in zip(loss.weights().tolist(), each, strict=True)) / 4
    targets = Targets(torch.tensor([0]))
    assert loss(heads, targets, Distillation()).item() == pytest.approx(expected, abs=1e-5)


def test_distillation_by_hand() -> None:
    """A quarter of the teacher for a labelled text, all of it for one without a label."""
    logits, soft = torch.tensor([[1.0, 0.0, 0.0]] * 2), torch.tensor([[0.2, 0.5, 0.3]] * 2)
    log_probs = logits[0].log_softmax(dim=-1).tolist()
    hard, taught = -log_probs[2], -sum(p * q for p, q in zip([0.2, 0.5, 0.3], log_probs, strict=True))
    found = exit_loss(logits, Targets(torch.tensor([2, -1]), soft), Distillation(0.25))
    assert found.tolist() == pytest.approx([0.75 * hard + 0.25 * taught, taught], abs=1e-6)


def test_self_distillation_is_the_divergence_from_the_last_exit() -> None:
    """FastBERT, equation 5: KL(student, teacher), and no gradient into the teacher."""
    rows = [torch.randn(5, 3, requires_grad=True) for _ in range(3)]
    found = SelfDistillation()([Heads(row) for row in rows], Targets(torch.zeros(5, dtype=torch.int64)), Distillation())
    last = rows[-1].softmax(dim=-1)
    students = [row.softmax(dim=-1) for row in rows[:-1]]
    expected = torch.stack([(p * (p / last).log()).sum(dim=-1) for p in students]).mean(dim=0)
    assert torch.allclose(found, expected, atol=1e-6)
    found.sum().backward()
    assert rows[-1].grad is None
    assert rows[0].grad is not None


MOVING = {
    "last": {"backbone", "last"},
    "joint": {"backbone", "early", "last"},
    "elbert": {"backbone", "early", "last"},
    "two_stage": {"backbone", "early", "last"},
    "deebert": {"backbone", "early", "last"},
    "fastbert": {"backbone", "early", "last"},
    "alternating": {"backbone", "early", "last"},
    "berxit": {"backbone", "early", "last", "learned", "adapter"},
    "pf_berxit": {"early", "last", "learned", "adapter"},
}


def part(name: str) -> str:
    if name.startswith("classifier."):
        return "last" if name.startswith(f"classifier.{FULL.layers - 1}.") else "early"
    for prefix, found in (("learned_exit.", "learned"), ("adapter.", "adapter")):
        if name.startswith(prefix):
            return found
    return "backbone"


def dataset(texts: int = 64, seed: int = 0) -> Dataset:
    """Texts whose label is in one of their tokens."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.arange(texts) % 3
    ids = [(1, *torch.randint(10, 97, (6,), generator=rng).tolist(), 2 + int(each), 5) for each in label]
    return Dataset(ids, label)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_learns_64_texts_and_moves_what_it_should(strategy: str) -> None:
    """All exits that it trains get them right; frozen parameters stay as they were, to the bit."""
    data = dataset()
    network = Network(FULL, initial_tensors(FULL, torch.Generator().manual_seed(0), std=0.1))
    if strategy in ("pf_berxit", "two_stage", "deebert", "fastbert"):  # what they freeze must say something
        Training(network, phases("last", FULL), data, data, Recipe(epochs=12, learning_rate=4e-3, dropout=0.0)).run(
            lambda _: None, lambda *_: None
        )
    before, finished = network.tensors(), list[Epoch]()
    recipe = Recipe(epochs=25, batch_size=16, learning_rate=4e-3, head_learning_rate=2e-2, dropout=0.0)
    Training(network, phases(strategy, FULL), data, data, recipe).run(finished.append, lambda *_: None)
    after = network.tensors()
    moved = {part(name) for name in before if not torch.equal(before[name], after[name])}
    adapters = {"adapter"} if "backbone" in MOVING[strategy] else set()
    assert moved == MOVING[strategy] | adapters
    judged = phases(strategy, FULL)[-1].losses[-1].judged
    assert min(score.accuracy for score in finished[-1].dev[judged]) >= 0.95
    if strategy == "elbert":
        assert len(finished[-1].loss_weights) == FULL.layers
        assert sum(finished[-1].loss_weights) == pytest.approx(FULL.layers, abs=1e-4)
        assert finished[-1].loss_weights != pytest.approx(ElbertWeights(FULL.layers).weights().tolist(), abs=1e-6)


@pytest.mark.parametrize("strategy", ["two_stage", "fastbert", "berxit", "pf_berxit", "unheard"])
def test_a_strategy_that_lacks_its_heads_is_refused(strategy: str) -> None:
    """At start, with what it needs."""
    with pytest.raises(ConfigError, match=r"needs|required"):
        phases(strategy, SMALL)


def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """Stopped after every second epoch, over two phases, dropout and all: equal to the bit."""
    data, plan = dataset(), "fastbert"
    config = dataclasses.replace(LATE, classifiers="per_layer")
    recipe = Recipe(epochs=3, batch_size=16, learning_rate=2e-3, dropout=0.2)

    class Stopped(Exception):
        pass

    def attempt(folder: Path, stop_after: int | None) -> dict[str, torch.Tensor]:
        from earlybird.engine.training.run_folder import load_checkpoint, save_checkpoint

        folder.mkdir(exist_ok=True)
        found = load_checkpoint(folder)
        start = initial_tensors(config, torch.Generator().manual_seed(0), std=0.1)
        network = Network(config, found[0] if found else start, recipe.dropout)
        training = Training(network, phases(plan, config), data, data, recipe, found[1] if found else None)
        seen = 0

        def each_epoch(_: Epoch) -> None:
            nonlocal seen
            seen += 1
            save_checkpoint(folder, network.tensors(), training.state)
            if seen == stop_after:
                raise Stopped

        training.run(each_epoch, lambda *_: None)
        return network.tensors()

    whole = attempt(tmp_path / "whole", None)
    for _ in range(2):
        with pytest.raises(Stopped):
            attempt(tmp_path / "parts", 2)
    parts = attempt(tmp_path / "parts", None)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_phase_ends_after_epochs_without_a_better_one() -> None:
    """At a rate of 0 the first epoch stays the best one; without patience all epochs run."""
    data = dataset(12)
    for patience, epochs in ((None, 6), (2, 3)):
        recipe, seen = Recipe(epochs=6, learning_rate=0.0, patience=patience), list[int]()
        network = Network(SMALL, initial_tensors(SMALL, torch.Generator().manual_seed(0)))
        training = Training(network, phases("joint", SMALL), data, data, recipe)
        training.run(lambda epoch, seen=seen: seen.append(epoch.number), lambda *_: None)  # type: ignore[misc]
        assert seen == list(range(1, epochs + 1))


def write(path: Path, count: int = 90) -> Path:
    phrases = ("cuts outlook", "names chairman", "lifts outlook")
    lines = [
        json.dumps({"text": f"Firm{number} {phrases[number % 3]} today", "label": ("down", "flat", "up")[number % 3]})
        for number in range(count)
    ]
    path.write_text("\n".join(lines), "utf-8")
    return path


def test_a_job_ends_with_a_model_that_the_engine_loads(tmp_path: Path) -> None:
    """From the bundled model and a user's file with a user's labels; two seeds; calibration texts kept apart."""
    labels = {"down": "negative", "flat": "neutral", "up": "positive"}
    job = Job(
        start=str(BUNDLED_FOLDER),
        train=(write(tmp_path / "texts.jsonl"),),
        output=tmp_path / "run",
        labels=labels,
        layers=2,
        seeds=(0, 1),
        recipe=Recipe(epochs=1, learning_rate=1e-4),
    )
    outcome = train(job, Watch())
    assert len(outcome.folders) == 2
    engine = Engine.load(EngineConfig(model=str(outcome.chosen), policy="cwb:delta=0.5,window=2", device="cpu"))
    assert engine.max_layers == 2
    assert engine.checkpoint.manifest is not None
    assert engine.checkpoint.manifest.strategy == "elbert"
    assert len(engine.checkpoint.manifest.loss_weights or ()) == 2
    kept = [json.loads(line)["text"] for line in (tmp_path / "run" / "calibration.jsonl").read_text().splitlines()]
    sizes = json.loads((tmp_path / "run" / "data.json").read_text())
    assert (len(kept), sizes["train"]["texts"]) == (9, 72)
    assert (tmp_path / "run" / "seed-1" / "curves.svg").read_text().startswith("<svg")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert all(score["loss"] > 0 for line in log for score in line["dev"])
    with pytest.raises(ConfigError, match="--resume"):
        train(job, Watch())
    manifests = [(folder / "manifest.json").read_text() for folder in outcome.folders]
    assert train(job, Watch(), resume=True).chosen == outcome.chosen
    assert [(folder / "manifest.json").read_text() for folder in outcome.folders] == manifests
    with pytest.raises(ConfigError, match="strategy"):
        train(dataclasses.replace(job, strategy="joint"), Watch(), resume=True)


def test_files_of_every_form_are_read_alike(tmp_path: Path) -> None:
    """JSON lines, tables with other column names, and the Financial PhraseBank's own form in Latin-1."""
    (tmp_path / "a.jsonl").write_text('{"text": "Nokia säästää", "label": "positive"}\n\n', "utf-8")
    (tmp_path / "a.csv").write_text('\ufeffheadline,mood\n"Nokia säästää",POSITIVE\n', "utf-8")
    (tmp_path / "a.tsv").write_text("headline\tmood\nNokia säästää\tpositive\n", "utf-8")
    (tmp_path / "a.txt").write_bytes("Nokia säästää@positive\r\n".encode("latin-1"))
    columns = Columns("headline", "mood")
    read = [
        read_examples(tmp_path / "a.jsonl"),
        read_examples(tmp_path / "a.csv", columns=columns),
        read_examples(tmp_path / "a.tsv", columns=columns),
        read_examples(tmp_path / "a.txt"),
    ]
    assert read == [[Example("Nokia säästää", 2)]] * 4


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "x", "label": "bearish"}', "--labels"),
        ("a.jsonl", '{"text": "x"}', "label required"),
        ("a.jsonl", '{"label": "positive"}', "line 1"),
        ("a.jsonl", "[", "line 1: no JSON"),
        ("a.jsonl", "", "at least one text"),
        ("a.csv", "headline,label\nx,positive\n", "column 'text'"),
        ("a.csv", "text,label\n ,positive\n", "row 1: a text"),
        ("a.parquet", "x", ".jsonl, .csv"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, name: str, content: str, said: str
) -> None:
    """Before anything is trained."""
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=said):
        read_examples(tmp_path / name)


def test_splits_share_no_text_and_keep_the_proportions() -> None:
    """Texts that differ in case, links or punctuation alone are one text."""
    examples = [Example(f"{twin} number {number}", number % 3) for number in range(300) for twin in ("Text", "TEXT!")]
    parts = split(examples, (0.8, 0.1, 0.1), seed=1)
    forms = [{normal_form(example.text) for example in part} for part in parts]
    assert not forms[0] & forms[1] and not forms[0] & forms[2] and not forms[1] & forms[2]
    assert [len(part) for part in parts] == [480, 60, 60]
    assert all(abs(sum(e.label == 0 for e in part) / len(part) - 1 / 3) < 0.02 for part in parts)
    assert split(examples, (0.8, 0.1, 0.1), seed=1) == parts != split(examples, (0.8, 0.1, 0.1), seed=2)
    assert len(stratified(examples, 100, seed=0)) in range(98, 103)
    assert without(examples, parts[0]) == [e for e in examples if normal_form(e.text) not in forms[0]]


def test_scores_by_hand() -> None:
    """Macro-F1, calibration error and loss of a few predictions."""
    found_scores = scores(torch.tensor([[0.0, 0.0, 0.0], [math.log(8), 0.0, 0.0]]), torch.tensor([1, 0]))
    assert found_scores.loss == pytest.approx((math.log(3) + math.log(10 / 8)) / 2)
    assert found_scores.accuracy == 0.5
    label, found = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 1, 1, 2, 0])
    assert macro_f1(found, label, 3) == pytest.approx((2 / 4 + 4 / 5 + 2 / 3) / 3)
    probs = torch.tensor([[0.9, 0.1, 0.0], [0.9, 0.05, 0.05], [0.3, 0.6, 0.1], [0.2, 0.6, 0.2]])
    assert calibration_error(probs, torch.tensor([0, 1, 1, 1])) == pytest.approx(
        (2 * abs(0.9 - 0.5) + 2 * 0.4) / 4, abs=1e-6
    )


def test_factorised_embeddings_are_the_best_of_their_rank() -> None:
    """The error is that of the singular values left out."""
    words = torch.randn(50, 12, generator=torch.Generator().manual_seed(0))
    small, project = factorised(words, 5)
    left = torch.linalg.svdvals(words)[5:]
    assert (words - small @ project.T).norm().item() == pytest.approx(left.norm().item(), rel=1e-4)


def test_a_start_keeps_what_fits_and_draws_the_rest() -> None:
    """A shared classifier becomes the first state of every depth's own."""
    start = from_model(str(BUNDLED_FOLDER))
    wider = reshaped(start, 0, layers=3, classifiers="per_layer", learned_exits="shared")
    assert torch.equal(wider.tensors["embedding.project.weight"], start.tensors["embedding.project.weight"].float())
    for depth in range(3):
        assert torch.equal(wider.tensors[f"classifier.{depth}.weight"], start.tensors["classifier.0.weight"].float())
    assert wider.tensors["learned_exit.0.weight"].abs().sum() > 0


def test_a_shared_layer_becomes_the_first_state_of_each_groups() -> None:
    """The model answers as before. Where each pass has its own, fewer keep the first ones and more repeat the last."""
    shared = Start("shared", LATE, lively(LATE), from_model(str(BUNDLED_FOLDER)).tokenizer)
    batch = Batch.of([(1, 2, 3), (4, 5)])

    def answers(start: Start) -> list[torch.Tensor]:
        with torch.no_grad():
            return [heads.logits for heads in Network(start.config, start.tensors).eval()(batch)]

    own = reshaped(shared, 0, groups=LATE.layers)
    assert sum("widen.weight" in name for name in own.tensors) == LATE.layers
    assert all(map(torch.equal, answers(own), answers(shared)))
    own.tensors["layer.1.widen.weight"].mul_(2.0)
    deep, flat = reshaped(own, 0, layers=LATE.layers + 1), reshaped(own, 0, layers=2)
    assert (deep.config.groups, flat.config.groups) == (LATE.layers + 1, 2)
    last = f"layer.{LATE.layers}.widen.weight"
    assert torch.equal(deep.tensors[last], own.tensors[f"layer.{LATE.layers - 1}.widen.weight"])
    assert torch.equal(flat.tensors["layer.1.widen.weight"], own.tensors["layer.1.widen.weight"])
    with pytest.raises(ConfigError, match=f"groups: {LATE.layers} required, as in the start, was 1"):
        reshaped(own, 0, groups=1)


def test_each_seed_draws_the_parts_that_its_start_lacks(tmp_path: Path) -> None:
    """Adapters of two seeds differ from the first step on; at a rate of 0 they stay as they were drawn."""
    labels = {"down": "negative", "flat": "neutral", "up": "positive"}
    job = Job(
        start=str(BUNDLED_FOLDER),
        train=(write(tmp_path / "texts.jsonl", 40),),
        output=tmp_path / "run",
        strategy="pf_berxit",
        labels=labels,
        layers=2,
        seeds=(0, 1),
        recipe=Recipe(epochs=1, learning_rate=0.0),
    )
    folders = train(job, Watch()).folders
    first, second = (Engine.load(EngineConfig(model=str(folder))).checkpoint.tensors for folder in folders)
    assert not torch.equal(first["adapter.0.down.weight"], second["adapter.0.down.weight"])
    assert torch.equal(first["embedding.project.weight"], second["embedding.project.weight"])
