"""Exits that follow the load: the text form, the rung of a queue, and that a rung decides as its policy alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.ladder import Ladder, LoadFollower, rungs_of
from earlybird.engine.exits.policy import ClassifierOutput, Heads, at_last_layer, classifier_output
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import walk

LAYERS = 8
THREE = "load:idle=(cwb:delta=0.2,window=3),busy=(patience:count=1|entropy:threshold=0.4),at=4,busy=(fixed:1),at=20"


def outputs(texts: int, seed: int) -> list[ClassifierOutput]:
    """Logits that wander and grow surer."""
    rng = torch.Generator().manual_seed(seed)
    steps = torch.randn(LAYERS, texts, 3, generator=rng).cumsum(dim=0)
    return [classifier_output(Heads(logits)) for logits in steps]


@pytest.mark.parametrize(
    ("given_as", "canonical"),
    [
        ("load:at=9,busy=(fixed:1),idle=(full)", "load:idle=(full),busy=(fixed:1),at=9"),
        (
            "load:idle=(cwb:window=2,delta=.3),busy=(entropy:threshold=.5|patience:count=2),at=32",
            "load:idle=(cwb:delta=0.3,window=2),busy=(entropy:threshold=0.5|patience:count=2),at=32",
        ),
        (THREE, THREE),
        ("load:idle=(fixed:8),busy=(fixed:2),at=1", "load:idle=(full),busy=(fixed:2),at=1"),
    ],
)  # fmt: skip
def test_a_ladder_has_one_canonical_spelling(given_as: str, canonical: str) -> None:
    """Keys in any order, policies in parentheses; what is written is read again as the same."""
    policy = parse(given_as, LAYERS)
    assert policy.spec == canonical and parse(canonical, LAYERS) == policy
    assert [rung.spec for rung in rungs_of(policy)] == [parse(rung.spec, LAYERS).spec for rung in rungs_of(policy)]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("load:", "idle=.POLICY."),
        ("load:idle=(full)", "an at= for each busy="),
        ("load:busy=(fixed:1),at=3", "idle= once"),
        ("load:idle=(full),idle=(fixed:2),busy=(fixed:1),at=3", "idle= once"),
        ("load:idle=(full),busy=(fixed:1),busy=(fixed:2),at=3", "an at= for each busy="),
        ("load:idle=full,busy=(fixed:1),at=3", "was 'idle=full'"),
        ("load:idle=(full)busy=(fixed:1),at=3", r"was 'idle=\(full\)busy=\(fixed:1\)'"),
        ("load:idle=(full),busy=(fixed:1),at=3,", "was ''"),
        ("load:idle=((full),busy=(fixed:1),at=3", "parenthesis"),
        ("load:idle=(full)),busy=(fixed:1),at=3", "parenthesis"),
        ("load:idle=(full),busy=(fixed:1),at=0", "from 1, ascending required, was 0"),
        ("load:idle=(full),busy=(fixed:1),at=9,busy=(fixed:2),at=9", "ascending"),
        ("load:idle=(full),busy=(fixed:8),at=3", "policies that differ"),
        ("load:idle=(full),busy=(fixed:9),at=3", "the model has 8 layers"),
        ("load:idle=(full),busy=(learned:threshold=0.5),at=3", "learned-exit heads"),
        ("load:idle=(load:idle=(full),busy=(fixed:1),at=2),busy=(fixed:2),at=3", "stands alone"),
        ("fixed:1|load:idle=(full),busy=(fixed:2),at=3", "stands alone"),
        ("load:idle=(full),busy=(fixed:1),at=\u0663", "was 'at=\u0663'"),
        ("load:idle=(full),busy=(fixed:1),at=-1", "was 'at=-1'"),
    ],
)
def test_what_is_no_ladder_is_refused_with_the_part(spec: str, message: str) -> None:
    """Before anything runs."""
    with pytest.raises(ConfigError, match=message):
        parse(spec, LAYERS)


def test_a_rung_is_left_at_half_its_number() -> None:
    """By hand, for rungs at 4 and 20 waiting texts."""
    ladder = parse(THREE, LAYERS)
    assert isinstance(ladder, Ladder)
    level, seen = 0, []
    for waiting in (0, 3, 4, 9, 19, 20, 50, 10, 9, 4, 2, 1, 3, 30, 0):
        level = ladder.level(level, waiting)
        seen.append(level)
    assert seen == [0, 0, 1, 1, 1, 2, 2, 2, 1, 1, 1, 0, 0, 2, 0]


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(-5, 80), max_size=30),
)
def test_the_device_counts_as_the_host(at: list[int], queue: list[int]) -> None:
    """The tensor form of `level` over any course of the queue."""
    rungs = tuple(parse(f"fixed:{number}", LAYERS) for number in range(1, len(at) + 2))
    ladder, host, device = Ladder(rungs, tuple(sorted(at))), 0, torch.zeros(1, dtype=torch.int64)
    for waiting in queue:
        host, device = ladder.level(host, waiting), ladder.level_on_device(device, torch.tensor([waiting]))
        assert host == int(device)


def test_each_text_is_decided_by_its_own_rung() -> None:
    """600 texts on three rungs at once: exit, reason and distance of each as of its policy alone, over every pass."""
    ladder, said = parse(THREE, LAYERS), outputs(600, seed=1)
    assert isinstance(ladder, Ladder)
    rung = torch.arange(600) % 3
    state = (rung, *ladder.initial_state(600, said[0].logits[:0])[1:])
    alone = [(policy, walk(policy, said)) for policy in ladder.rungs]
    states = [policy.initial_state(600, said[0].logits[:0]) for policy in ladder.rungs]
    depth_found, reason_found = torch.zeros(600, dtype=torch.int64), torch.zeros(600, dtype=torch.int64)
    for number, output in enumerate(said, start=1):
        depth = torch.full((600,), number)
        each = list(zip(ladder.rungs, states, strict=True))
        distances = [policy.distance_to_flip(output, depth, own) for policy, own in each]
        expected = torch.stack(distances).gather(0, rung[None])[0]
        assert torch.equal(ladder.distance_to_flip(output, depth, state), expected)
        decision = at_last_layer(ladder.decide(output, depth, state), depth, LAYERS)
        states = [policy.decide(output, depth, own).state for policy, own in each]
        state, now = decision.state, decision.leaving & (depth_found == 0)
        depth_found = torch.where(now, number, depth_found)
        reason_found = torch.where(now, decision.reason, reason_found)
        assert torch.equal(state[0], rung), "the rung of a text never changes"
    for number, (_, found) in enumerate(alone):
        mine = rung == number
        assert torch.equal(depth_found[mine], found.depth[mine]) and torch.equal(reason_found[mine], found.reason[mine])
        assert len(found.depth[mine].unique()) > 1 or number == 2


def test_without_a_queue_texts_take_the_first_rung_unless_one_is_recorded() -> None:
    """And of a policy without rungs nothing is said."""
    ladder = parse(THREE, LAYERS)
    follower, state = LoadFollower(ladder), ladder.initial_state(3, torch.empty(0, 3))
    follower.follow(100)
    assert follower.rungs(follower.seated(state, [None, 0, 1])) == [2, 0, 1]
    follower.follow(None)
    assert follower.rungs(follower.seated(state, [None, 0, 2])) == [0, 0, 2]
    plain = LoadFollower(parse("fixed:1", LAYERS))
    plain.follow(100)
    assert plain.seated((), [None]) == () and plain.rungs(()) is None
