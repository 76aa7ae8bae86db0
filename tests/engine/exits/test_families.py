"""Every family of exit rules against a slow reading of its equation, one float at a time."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.policy import REASONS, ClassifierOutput, Heads, classifier_output
from earlybird.engine.exits.spec import FAMILIES, grammar, never_early, parse
from earlybird.engine.exits.walk import walk
from earlybird.engine.slots.packed import Packed
from earlybird.engine.types import Request
from earlybird.schemas.signal import ExitReason

LAYERS = 6
Outputs = Sequence[Sequence[float]]  # probabilities after every pass
Rule = Callable[[Outputs, Sequence[float]], bool]  # (probabilities so far, certainties so far) -> exits now


def entropy(p: Sequence[float]) -> float:
    return -math.fsum(x * math.log(x) for x in p if x > 0) / math.log(len(p))


def label(p: Sequence[float]) -> int:
    return list(p).index(max(p))


def cross(p: Sequence[float], q: Sequence[float]) -> float:
    return -math.fsum(a * math.log(b) for a, b in zip(p, q, strict=True))


def kl(p: Sequence[float], q: Sequence[float]) -> float:
    return math.fsum((a - b) * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True))


SCORES = {
    "ce": cross,
    "reversed": lambda p, q: cross(q, p),
    "symmetric": lambda p, q: cross(p, q) + cross(q, p),
    "kl": kl,
}


def in_a_row(holds: Sequence[bool]) -> int:
    """How many of the last ones hold, without a break."""
    count = 0
    for held in reversed(holds):
        if not held:
            break
        count += 1
    return count


def slow_patience(count: int) -> Rule:
    def rule(p: Outputs, _: Sequence[float]) -> bool:
        return in_a_row([label(p[i]) == label(p[i - 1]) for i in range(1, len(p))]) >= count

    return rule


def slow_range(window: int, spread: float) -> Rule:
    def rule(p: Outputs, _: Sequence[float]) -> bool:
        recent = p[-window:]
        wide = max(max(row[c] for row in recent) - min(row[c] for row in recent) for c in range(len(p[0])))
        return len(recent) == window and wide < spread

    return rule


def slow_label(window: int) -> Rule:
    return lambda p, _: len(p) >= window and len({label(row) for row in p[-window:]}) == 1


def slow_similarity(version: int, threshold: float, count: int, previous: int, score: str) -> Rule:
    def similar(p: Outputs, i: int) -> list[bool]:
        return [SCORES[score](p[i], p[i - j]) < threshold for j in range(1, previous + 1)] if i >= previous else []

    def rule(p: Outputs, _: Sequence[float]) -> bool:
        if version == 3:
            return sum(similar(p, len(p) - 1)) >= count
        return in_a_row([bool(s) and all(s) for i in range(len(p)) for s in [similar(p, i)]]) >= count

    return rule


RULES: dict[str, tuple[Rule, ExitReason]] = {
    "entropy:threshold=0.6": (lambda p, _: entropy(p[-1]) < 0.6, ExitReason.CONFIDENCE),
    "maxprob:threshold=0.8": (lambda p, _: max(p[-1]) >= 0.8, ExitReason.CONFIDENCE),
    "learned:threshold=0.7": (lambda _, c: c[-1] >= 0.7, ExitReason.LEARNED),
    "patience:count=1": (slow_patience(1), ExitReason.PATIENCE),
    "patience:count=3": (slow_patience(3), ExitReason.PATIENCE),
    "cwb:delta=0.0,window=3,criterion=label": (slow_label(3), ExitReason.WINDOW),
    "cwb:delta=0.0,window=2,criterion=range,spread=0.2": (slow_range(2, 0.2), ExitReason.WINDOW),
    "cwb:delta=0.0,window=4,criterion=range,spread=0.4": (slow_range(4, 0.4), ExitReason.WINDOW),
    **{
        f"similarity:version={version},threshold={threshold},count={count}"
        + (f",previous={previous}" if previous > 1 else "")
        + (f",score={score}" if score != "ce" else ""): (
            slow_similarity(version, threshold, count, previous, score),
            ExitReason.SIMILARITY,
        )
        for score, threshold in (("ce", 0.8), ("reversed", 0.8), ("symmetric", 1.7), ("kl", 0.3))
        for version, count, previous in ((1, 1, 1), (1, 2, 1), (2, 1, 2), (2, 2, 3), (3, 1, 2), (3, 2, 3))
    },
}


def outputs(texts: int, seed: int) -> list[ClassifierOutput]:
    """Random walks of logits, from calm to saturated, with certainties."""
    rng = torch.Generator().manual_seed(seed)
    steps = torch.randn(LAYERS, texts, 3, generator=rng, dtype=torch.float64)
    logits = steps.cumsum(0) * torch.logspace(-0.5, 0.7, texts, dtype=torch.float64)[None, :, None]
    certainty = torch.rand(LAYERS, texts, generator=rng, dtype=torch.float64)
    return [classifier_output(Heads(*heads)) for heads in zip(logits, certainty, strict=True)]


@pytest.mark.parametrize("spec", RULES)
def test_rules_exit_where_their_equation_says(spec: str) -> None:
    """400 random walks; some exit early and some do not, so that the comparison means something."""
    rule, reason = RULES[spec]
    said = outputs(400, seed=len(spec))
    policy = parse(spec, LAYERS, learned_exits=True)
    assert policy.spec == spec
    found = walk(policy, said)
    for text in range(400):
        p = [output.probs[text].tolist() for output in said]
        c = [float(output.certainty[text]) for output in said]  # type: ignore[index]
        early = [depth for depth in range(1, LAYERS + 1) if rule(p[:depth], c[:depth])]
        expected = (early[0], reason) if early else (LAYERS, ExitReason.LAST_LAYER)
        assert (int(found.depth[text]), REASONS[int(found.reason[text])]) == expected, f"{spec}: text {text}"
        assert int(found.label[text]) == label(p[expected[0] - 1])
    assert 0 < int((found.depth < LAYERS).sum()) < 400
    assert int(found.depth.min()) >= (policy.earliest or LAYERS)


def test_every_family_is_compared() -> None:
    """A family without a slow version beside it is not tested; cwb's first criterion is in test_exits."""
    assert {spec.partition(":")[0] for spec in RULES} == set(FAMILIES)
    assert all(name in grammar() for name in FAMILIES)


def test_similarity_by_hand() -> None:
    """Equations 5 to 8 of PF-BERxiT on two outputs: p1 = (.7, .2, .1), p2 = (.8, .1, .1)."""
    first, second = [0.7, 0.2, 0.1], [0.8, 0.1, 0.1]
    ce = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    assert ce == pytest.approx(0.6765, abs=1e-4)
    logits = torch.tensor([first, second], dtype=torch.float64).log()[:, None]
    said = [classifier_output(Heads(row)) for row in (*logits, *logits)]
    below, above = (parse(f"similarity:version=1,threshold={ce + step},count=1", 4) for step in (-1e-6, 1e-6))
    assert (int(walk(above, said).depth), int(walk(below, said).depth)) == (2, 4)


def test_any_of_takes_the_first_member_that_fires() -> None:
    """Where both fire the reason is that of the one written first; state of the other is kept all the same."""
    said = outputs(400, seed=3)
    one, other = "patience:count=2", "entropy:threshold=0.3"
    alone = [walk(parse(spec, LAYERS), said) for spec in (one, other)]
    both, turned = (walk(parse(spec, LAYERS), said) for spec in (f"{one}|{other}", f"{other}|{one}"))
    assert torch.equal(both.depth, torch.minimum(alone[0].depth, alone[1].depth))
    assert torch.equal(both.depth, turned.depth)
    tied = (alone[0].depth == alone[1].depth) & (both.depth < LAYERS)
    assert tied.any()
    assert {REASONS[code] for code in both.reason[tied].tolist()} == {ExitReason.PATIENCE}
    assert {REASONS[code] for code in turned.reason[tied].tolist()} == {ExitReason.CONFIDENCE}


REFILLED = [*RULES, "cwb:delta=0.2,window=3", "patience:count=2|learned:threshold=0.6", "fixed:3", "full"]


@pytest.mark.parametrize("spec", REFILLED)
def test_a_slot_refilled_never_changes_the_next_verdict(
    spec: str, pair: Callable[..., Any], hostile: Callable[..., Any], drain: Callable[..., Any]
) -> None:
    """Two slots, forty texts through them: each exits as it does alone in a new runner."""
    model, policy = pair("late-norm").oracle, parse(spec, LAYERS, learned_exits=True)
    requests: list[Request] = hostile("mixed", 40)
    together = {verdict.ticket: verdict for verdict in drain(Packed(model, policy, 2, 80), requests)}
    for request in requests:
        (alone,) = drain(Packed(model, policy, 2, 80), [request])
        said = together[request.ticket]
        assert (said.exit_layer, said.exit_reason, said.label) == (alone.exit_layer, alone.exit_reason, alone.label)


@pytest.mark.parametrize("spec", RULES)
def test_distance_to_flip_keeps_its_promise(spec: str) -> None:
    """Outputs shaken by far less than the distance of every pass exit at the same layer."""
    policy = parse(spec, LAYERS, learned_exits=True)
    said = outputs(300, seed=11)
    rng = torch.Generator().manual_seed(1)
    shaken = [
        classifier_output(
            Heads(
                output.logits + 1e-6 * (torch.rand(output.logits.shape, generator=rng, dtype=torch.float64) - 0.5),
                output.certainty,
            )
        )
        for output in said
    ]
    state, distance = policy.initial_state(300, said[0].logits[:0]), torch.full((300,), torch.inf)
    for depth, output in enumerate(said, start=1):
        passes = torch.full((300,), depth)
        distance = torch.minimum(distance, policy.distance_to_flip(output, passes, state))
        state = policy.decide(output, passes, state).state
    safe = distance > 1e-4
    assert safe.sum() > 200
    assert torch.equal(walk(policy, said).depth[safe], walk(policy, shaken).depth[safe])


def test_a_policy_that_cannot_act_early_is_known() -> None:
    """ELBERT's recommended window of 8 never fires early in a model of 8 layers; nor does a rule that is all off."""
    assert never_early(parse("cwb:delta=0.0,window=8", 8), 8)
    assert never_early(parse("cwb:delta=0,window=0", 8), 8)
    assert never_early(parse("patience:count=7", 8), 8)
    for spec in ("cwb:delta=0.3,window=8", "patience:count=6", "fixed:7", "full"):
        assert not never_early(parse(spec, 8), 8)


def test_a_rule_without_its_head_is_refused() -> None:
    """At start, with the reason."""
    with pytest.raises(ConfigError, match="learned-exit heads required"):
        parse("patience:count=2|learned:threshold=0.5", LAYERS)
