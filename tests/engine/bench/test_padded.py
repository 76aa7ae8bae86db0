"""The padded batch loop beside packed slots: what it computes is counted again, by hand."""

from collections.abc import Callable

import pytest
import torch

from earlybird.engine.bench.padded import PaddedBatches, compare
from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.types import Request, Verdict
from earlybird.schemas.signal import ExitReason

SIZE = 3
LENGTHS = (5, 21, 9, 3, 14, 30, 7, 7)


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The bundled model in few slots."""
    torch.set_num_threads(1)
    return Engine.load(EngineConfig(runner="packed", slots=SIZE))


def requests(engine: Engine) -> list[Request]:
    """Texts of these lengths."""
    rng, words = torch.Generator().manual_seed(3), engine.checkpoint.config.vocab_size
    drawn = [torch.randint(5, words, (length,), generator=rng).tolist() for length in LENGTHS]
    return [Request(ticket, tuple(ids)) for ticket, ids in enumerate(drawn)]


def seconds_of_steps(seconds: float) -> Callable[[], Callable[[], float]]:
    """A clock on which every step takes so long."""
    return lambda: lambda: seconds


def verdicts(engine: Engine) -> list[Verdict]:
    """What the slots say."""
    runner, said = engine.runner(), list[Verdict]()
    runner.submit(requests(engine))
    while runner.active or runner.waiting:
        said += runner.step()
    return sorted(said, key=lambda verdict: verdict.ticket)


def test_both_schedules_are_counted_pass_by_pass(engine: Engine) -> None:
    """All at once: batches of three in order of arrival, each as long and as deep as its longest and deepest text."""
    depths = [verdict.exit_layer for verdict in verdicts(engine)]
    assert len(set(depths)) > 1, "texts that all exit at one layer show nothing"
    texts = [(0.0, request) for request in requests(engine)]
    compared = compare(engine.runner(), engine.model, engine.policy, SIZE, texts, seconds_of_steps(1.0))
    groups = [range(start, min(start + SIZE, len(LENGTHS))) for start in range(0, len(LENGTHS), SIZE)]
    deepest = [max(depths[n] for n in group) for group in groups]
    longest = [max(LENGTHS[n] for n in group) for group in groups]
    assert compared.batches.passes == sum(deepest)
    assert compared.batches.token_passes == sum(
        len(group) * long * deep for group, long, deep in zip(groups, longest, deepest, strict=True)
    )
    assert compared.slots.token_passes == sum(n * depth for n, depth in zip(LENGTHS, depths, strict=True))
    assert compared.slots.passes <= compared.batches.passes
    assert compared.slots.token_passes < compared.batches.token_passes
    assert (compared.texts, compared.size) == (len(LENGTHS), SIZE)


def test_waits_count_from_arrival_to_answer(engine: Engine) -> None:
    """On a clock of one second per pass; a text that comes to an idle engine waits for its own passes only."""
    (first, *_), (verdict, *_) = requests(engine), verdicts(engine)
    compared = compare(engine.runner(), engine.model, engine.policy, SIZE, [(7.0, first)], seconds_of_steps(1.0))
    for run in (compared.slots, compared.batches):
        assert run.mean_ms == run.p50_ms == run.p99_ms == run.longest_ms == 1e3 * verdict.exit_layer
    far_apart = [(100.0 * number, request) for number, request in enumerate(requests(engine))]
    compared = compare(engine.runner(), engine.model, engine.policy, SIZE, far_apart, seconds_of_steps(1.0))
    assert compared.slots.mean_ms == compared.batches.mean_ms
    assert compared.slots.token_passes == compared.batches.token_passes


def test_a_batch_ends_as_one(engine: Engine) -> None:
    """The text that needs one pass is answered with the one that needs three; the next waits for both."""
    texts = requests(engine)[:3]
    known = {
        ticket: Verdict(ticket, 0, (1.0, 0.0, 0.0), (0.0, 0.0, 0.0), layer, ExitReason.FIXED, 0.0)
        for ticket, layer in enumerate((1, 3, 1))
    }
    loop = PaddedBatches(engine.model, engine.policy, 2, known)
    loop.submit(texts)
    assert [[verdict.ticket for verdict in loop.step()] for _ in range(4)] == [[], [], [0, 1], [2]]
    assert loop.step() == [] and not loop.active and not loop.waiting
