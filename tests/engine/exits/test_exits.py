"""Exit rules against a slow reading of their definitions, one float at a time."""

import itertools
import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.cwb import ConfidenceWindow
from earlybird.engine.exits.fixed import FixedDepth, FullDepth
from earlybird.engine.exits.policy import REASONS, ClassifierOutput, ExitPolicy, Heads, classifier_output, top2_gap
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import walk
from earlybird.schemas.signal import ExitReason


def slow_softmax(logits: Sequence[float]) -> list[float]:
    largest = max(logits)
    weights = [math.exp(value - largest) for value in logits]
    return [weight / math.fsum(weights) for weight in weights]


def slow_puzzlement(probs: Sequence[float]) -> float:
    return math.fsum(p * math.log(p) for p in probs if p > 0) / math.log(1 / len(probs))


def slow_cwb(walk: Sequence[Sequence[float]], delta: float, window: int) -> tuple[int, ExitReason]:
    """Layer and reason, straight from the definition: look back over the window at every pass."""
    history: list[list[float]] = []
    for depth, logits in enumerate(walk, start=1):
        history.append(slow_softmax(logits))
        if slow_puzzlement(history[-1]) < delta:
            return depth, ExitReason.CONFIDENCE
        if window and depth >= window:
            recent = history[-window:]
            classes = {probs.index(max(probs)) for probs in recent}
            tops = [max(probs) for probs in recent]
            if len(classes) == 1 and all(late >= early for early, late in itertools.pairwise(tops)):
                return depth, ExitReason.WINDOW
    return len(walk), ExitReason.LAST_LAYER


def answer(logits: Tensor) -> ClassifierOutput:
    return classifier_output(Heads(logits))


def follow(policy: ExitPolicy, walks: Tensor) -> list[tuple[int, ExitReason]]:
    """The rule on all walks (layers, S, C) at once: layer and reason of each."""
    found = walk(policy, [answer(logits) for logits in walks])
    return [(depth, REASONS[code]) for depth, code in zip(found.depth.tolist(), found.reason.tolist(), strict=True)]


def margin(policy: ExitPolicy, trajectory: Tensor) -> float:
    """How near one text (passes, C) came to another label or layer, as the oracle judges it."""
    state = policy.initial_state(1, trajectory[:0])
    distances = []
    for depth, logits in enumerate(trajectory[:, None], start=1):
        distances.append(policy.distance_to_flip(answer(logits), torch.tensor([depth]), state))
        state = policy.decide(answer(logits), torch.tensor([depth]), state).state
    return float(torch.cat([*distances, top2_gap(answer(logits))]).amin())


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize(("delta", "window"), [(0.3, 2), (0.3, 3), (0.0, 2), (0.5, 0), (1.0, 4), (0.1, 8), (0.2, 5)])
def test_cwb_exits_where_its_definition_says(delta: float, window: int, classes: int) -> None:
    """400 random walks of logits, from calm to saturated."""
    rng = torch.Generator().manual_seed(classes)
    steps = torch.randn(8, 400, classes, generator=rng, dtype=torch.float64)
    walks = steps.cumsum(0) * torch.logspace(-1, 1, 400, dtype=torch.float64)[None, :, None]
    exits = follow(ConfidenceWindow(delta, window), walks)
    assert exits == [slow_cwb(walk, delta, window) for walk in walks.transpose(0, 1).tolist()]
    assert len(exits) == 400


def test_random_walks_leave_at_every_layer_and_for_every_reason() -> None:
    """The comparison above means nothing if all walks leave at once."""
    steps = torch.randn(8, 400, 3, generator=torch.Generator().manual_seed(1))
    exits = follow(ConfidenceWindow(0.2, 4), steps.cumsum(0))
    assert {layer for layer, _ in exits} == set(range(1, 9))
    assert {reason for _, reason in exits} == {ExitReason.CONFIDENCE, ExitReason.WINDOW, ExitReason.LAST_LAYER}


@pytest.mark.parametrize("largest", [0.0, 50.0, 200.0, 1e4, 1e30, 3e38])
def test_saturated_logits_never_give_nan(largest: float) -> None:
    """p = 0 makes p log p NaN in a careless formula, and a NaN never passes a threshold: texts would never leave."""
    said = answer(torch.tensor([[largest, -largest, 0.0], [-largest, -largest, largest]]))
    for field in said[:-1]:
        assert torch.isfinite(field).all()
    assert ((said.entropy >= 0) & (said.entropy <= 1)).all()
    if largest >= 50:
        decision = ConfidenceWindow(0.01, 2).decide(
            said, torch.tensor([1, 1]), ConfidenceWindow(0.01, 2).initial_state(2, said.logits[:0])
        )
        assert decision.leaving.tolist() == [True, True]


def test_puzzlement_is_the_papers_equation_5() -> None:
    """0 when sure, 1 when uniform, and the formula between."""
    logits = torch.tensor([[0.3, -1.2, 0.7], [5.0, 5.0, 5.0], [900.0, 0.0, 0.0]], dtype=torch.float64)
    expected = [slow_puzzlement(slow_softmax(row)) for row in logits.tolist()]
    assert answer(logits).entropy.tolist() == pytest.approx(expected, abs=1e-15)
    assert answer(logits).entropy[1].item() == pytest.approx(1.0, abs=1e-15)
    assert answer(logits).entropy[2].item() == 0.0


def test_answers_are_at_least_float32() -> None:
    """Thresholds are not judged in half precision; float64 stays."""
    assert answer(torch.zeros(1, 3, dtype=torch.bfloat16)).probs.dtype == torch.float32
    assert answer(torch.zeros(1, 3, dtype=torch.float64)).probs.dtype == torch.float64


def test_first_stage_is_strict_and_comes_first() -> None:
    """Puzzlement equal to delta stays; where both stages fire the reason is confidence."""
    uniform, sure = torch.zeros(1, 3), torch.tensor([[9.0, 0.0, 0.0]])
    passes = torch.tensor([1])
    whole = ConfidenceWindow(1.0, 0)
    assert not whole.decide(answer(uniform), passes, whole.initial_state(1, uniform[:0])).leaving.item()
    both = ConfidenceWindow(0.5, 2)
    first = both.decide(answer(torch.tensor([[1.0, 0.0, 0.0]])), passes, both.initial_state(1, uniform[:0]))
    second = both.decide(answer(sure), passes + 1, first.state)
    assert second.leaving.item()
    assert REASONS[int(second.reason)] is ExitReason.CONFIDENCE


def test_equal_probabilities_count_as_not_falling() -> None:
    """An answer that no longer moves has settled."""
    still = torch.tensor([[1.0, 0.5, 0.0]]).expand(8, 1, 3)
    assert follow(ConfidenceWindow(0.0, 3), still) == [(3, ExitReason.WINDOW)]


def test_another_class_starts_the_window_again() -> None:
    """More and more sure, but not of one class."""
    turns = torch.tensor([[1.0, 0, 0], [0, 2.0, 0], [0, 2.5, 0], [0, 3.0, 0]])[:, None, :]
    assert follow(ConfidenceWindow(0.0, 3), turns) == [(4, ExitReason.WINDOW)]


def test_fixed_depth_leaves_there_and_full_depth_at_the_end() -> None:
    """Whatever the answers are."""
    walks = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0))
    assert follow(FixedDepth(2), walks) == [(2, ExitReason.FIXED)] * 7
    assert follow(FullDepth(), walks) == [(5, ExitReason.LAST_LAYER)] * 7
    assert follow(parse("fixed:5", 5), walks) == [(5, ExitReason.LAST_LAYER)] * 7


def test_a_decision_moves_only_when_a_quantity_crosses_its_margin() -> None:
    """The margin is a promise: logits shaken by less than it (in probability) never change label or layer."""
    rng = torch.Generator().manual_seed(5)
    policy = ConfidenceWindow(0.3, 3)
    walks = torch.randn(8, 2000, 3, generator=rng, dtype=torch.float64).cumsum(0) * 0.5
    shaken = walks + (torch.rand(walks.shape, generator=rng, dtype=torch.float64) - 0.5) * 2e-3
    moved = 0
    for slot, (tune_interpreter, other) in enumerate(zip(follow(policy, walks), follow(policy, shaken), strict=True)):
        if (
            margin(policy, walks[: tune_interpreter[0], slot]) > 4e-3
        ):  # puzzlement and differences of probabilities move more than a probability
            assert tune_interpreter == other
        moved += tune_interpreter != other
    assert 0 < moved < 100, f"the shaking must matter for this test to mean something, was {moved}"


def test_margin_is_the_smallest_distance_on_the_way() -> None:
    """By hand, two passes."""
    trail = torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.6, 0.3]], dtype=torch.float64).log()
    by_hand = min(
        0.2,
        abs(0.6 - 0.5),
        *(abs(slow_puzzlement(probs) - 0.3) for probs in ([0.2, 0.5, 0.3], [0.1, 0.6, 0.3])),
    )
    assert margin(ConfidenceWindow(0.3, 2), trail) == pytest.approx(by_hand, abs=1e-12)
    assert margin(FullDepth(), trail) == pytest.approx(0.3, abs=1e-12)


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("cwb:delta=0.3,window=2", "cwb:delta=0.3,window=2"),
        ("cwb:delta=.30,window=02", "cwb:delta=0.3,window=2"),
        ("cwb:window=2,delta=0.3", "cwb:delta=0.3,window=2"),
        ("cwb:criterion=bias,window=2,delta=0.3", "cwb:delta=0.3,window=2"),
        ("cwb:delta=0,window=3,criterion=label", "cwb:delta=0.0,window=3,criterion=label"),
        ("cwb:delta=0,window=3,criterion=range,spread=.1", "cwb:delta=0.0,window=3,criterion=range,spread=0.1"),
        ("entropy:threshold=.2", "entropy:threshold=0.2"),
        ("maxprob:threshold=0.90", "maxprob:threshold=0.9"),
        ("patience:count=03", "patience:count=3"),
        ("similarity:version=1,threshold=0.5,count=2", "similarity:version=1,threshold=0.5,count=2"),
        (
            "similarity:score=kl,count=2,previous=3,threshold=.05,version=3",
            "similarity:version=3,threshold=0.05,count=2,previous=3,score=kl",
        ),
        ("entropy:threshold=0.1|patience:count=2", "entropy:threshold=0.1|patience:count=2"),
        ("cwb:delta=0,window=0", "cwb:delta=0.0,window=0"),
        ("cwb:delta=0.00001,window=8", "cwb:delta=1e-05,window=8"),
        ("fixed:3", "fixed:3"),
        ("fixed:8", "full"),
        ("full", "full"),
    ],
)
def test_specs_have_one_canonical_spelling(spec: str, canonical: str) -> None:
    """Equal policies are spelled equally, and the spelling is a spec."""
    policy = parse(spec, 8)
    assert policy.spec == canonical
    assert parse(canonical, 8) == policy


@pytest.mark.parametrize(
    "spec",
    [
        *("", "cwb", "cwb:", "cwb:delta=0.3", "cwb:delta=0.3,window=2,window=2", "cwb:delta=0.3,window=2 ", "Full"),
        *("cwb:delta=nan,window=2", "cwb:delta=-0.1,window=2", "cwb:delta=1.1,window=2", "cwb:delta=1e999,window=2"),
        *("cwb:delta=0.3,window=9", "cwb:delta=0.3,window=1", "cwb:delta=0.3,window=-2", "cwb:delta=0.3,window=٣"),
        *(
            "entropy:threshold=0",
            "maxprob:threshold=1.1",
            "patience:count=0",
            "patience:count=8",
            "patience:",
            "a|full",
        ),
        *("full|fixed:2", "fixed:2|", "learned:threshold=0.5", "similarity:version=4,threshold=1,count=1"),
        *("similarity:version=1,threshold=1,count=1,previous=2", "similarity:version=3,threshold=1,count=3,previous=2"),
        *("cwb:delta=0.1,window=3,criterion=range", "cwb:delta=0.1,window=3,spread=0.1", "cwb:delta=0.1,window=3,x=1"),
        *("fixed:0", "fixed:9", "fixed:-1", "fixed:", "fixed:3.5", "fixed:99999"),
    ],
)
def test_impossible_specs_are_refused_with_the_value(spec: str) -> None:
    """At start, not at the first text. A window wider than the model is deep would never fill."""
    with pytest.raises(ConfigError, match=r"was|never fills|no parameter .x.; there are delta, window"):
        parse(spec, 8)


def test_random_specs_never_raise_anything_else() -> None:
    """Settings come from people."""
    rng = random.Random(0)
    for _ in range(2000):
        spec = "".join(rng.choice("cwb:delta=0.3,window=2 fixed full\x00é") for _ in range(rng.randint(0, 24)))
        try:
            parse(spec, 8)
        except ConfigError as error:
            assert "\n" not in str(error)
