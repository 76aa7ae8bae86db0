"""One run: rows in turn, round after round, each answer held to the oracle."""

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from engine.bench.clock import stopwatch
from engine.bench.limit import peaks
from engine.bench.ours import elbert
from engine.bench.row import Build, Row, Said, Setting
from engine.bench.workload import BLOCK, Text, flops
from engine.errors import ConfigError
from engine.exits.fixed import FullDepth
from engine.slots.reference import trace
from engine.types import Request

REFILLS = 20  # of every slot; with fewer the emptying table at the end is what is measured
MISSING = "not installed: pip install 'earlybird[bench]'"
BASELINE = "hf_b1"


@dataclass(frozen=True, slots=True)
class Pace:
    """How much is run. `seconds`: of one row in one round, about; every row runs a block at least."""

    rounds: int
    seconds: float
    patience: float  # seconds: whose block takes longer runs it once; slot rows may take twice that for their refills
    checked: int  # texts that are held to the oracle


@dataclass(slots=True)
class Result:
    """A row's figures; `note` instead of figures where it could not run."""

    name: str
    note: str = ""
    dtype: str = ""
    peer: bool = False
    slots: int = 0
    texts: int = 0
    refills: float = 0.0
    texts_per_s: float | None = None
    slowest: float | None = None  # round
    fastest: float | None = None
    ratio: float | None = None  # to hf_b1
    ratio_best_peer: float | None = None
    share: float | None = None  # of the limit: what the texts' true lengths and depths need at the GEMM's peak
    label_agreement: float | None = None  # with the oracle, share of texts
    depth_agreement: float | None = None
    max_logit_diff: float | None = None


@dataclass(slots=True)
class _Lane:
    """A row that runs."""

    result: Result
    row: Row
    texts: Sequence[Text]
    needed: float  # operations of one round
    seconds: list[float] = field(default_factory=list)
    done: bool = False  # too slow for more


def measure(
    builds: Mapping[str, Build], setting: Setting, texts: Sequence[Text], pace: Pace, tell: Callable[[str], None]
) -> tuple[dict[str, float], list[Result]]:
    """The limit by dtype in G/s, and a result for each name, in order. `texts`: whole blocks, the most that a row
    gets. `tell` hears what is going on."""
    results, lanes = [], []
    with torch_threads(setting.threads):
        tell("oracle")
        oracle = _oracle(setting, texts[: pace.checked])
        for name, build in builds.items():
            tell(f"{name}: build and first block")
            result, lane = _prepare(name, build, setting, texts, pace, oracle)
            results.append(result)
            lanes += [lane] if lane else []
        for number in range(pace.rounds):
            for lane in (lane for lane in lanes if not lane.done):
                tell(f"round {number + 1} of {pace.rounds}: {lane.result.name}")
                elapsed = stopwatch()
                lane.row.run(lane.texts)
                lane.seconds.append(elapsed())
        tell("limit")
        limit = peaks(setting.config, [lane.row.dtype for lane in lanes])
    for lane in lanes:
        _settle(lane, limit)
    _compare(results)
    return limit, results


def _prepare(
    name: str, build: Build, setting: Setting, texts: Sequence[Text], pace: Pace, oracle: Mapping[int, torch.Tensor]
) -> tuple[Result, _Lane | None]:
    try:
        row = build(setting)
    except ModuleNotFoundError as error:
        return Result(name, note=f"{error.name} {MISSING}"), None
    except ConfigError as error:
        return Result(name, note=str(error)), None
    row.run(texts[:2])
    elapsed = stopwatch()
    said = row.run(texts[:BLOCK])
    block_s = elapsed()
    mine = texts[: BLOCK * _blocks(row, block_s, pace, len(texts) // BLOCK)]
    said += row.run(texts[BLOCK : pace.checked]) if pace.checked > BLOCK and block_s < pace.patience else []
    result = Result(name, "", row.dtype, row.peer, row.slots, len(mine), len(mine) / row.slots - 1)
    _check(result, said, texts, oracle)
    full = all(each.depth == setting.config.layers for each in said)
    depths = [setting.config.layers if full else text.depth for text in mine]
    needed = sum(flops(setting.config, len(text.ids), depth) for text, depth in zip(mine, depths, strict=True))
    slow = block_s > pace.patience
    return result, _Lane(result, row, mine, needed, [block_s] if slow else [], slow)


def _blocks(row: Row, block_s: float, pace: Pace, most: int) -> int:
    """How many blocks of texts a round of this row is."""
    by_time = round(pace.seconds / block_s)
    if row.refilled:
        by_time = max(by_time, min(math.ceil((REFILLS + 1) * row.slots / BLOCK), int(2 * pace.patience / block_s)))
    return max(1, min(most, by_time))


def _oracle(setting: Setting, texts: Sequence[Text]) -> dict[int, torch.Tensor]:
    """Ticket -> logits (layers, C) after every pass: one text at a time, float32."""
    model, policy = elbert(setting, "float32", True), FullDepth()
    return {text.ticket: trace(model, policy, Request(text.ticket, text.ids)).logits for text in texts}


def _check(result: Result, said: Sequence[Said], texts: Sequence[Text], oracle: Mapping[int, torch.Tensor]) -> None:
    """A row without early exits is right to say the last layer's answer for all texts."""
    layers = len(next(iter(oracle.values())))
    full = all(each.depth == layers for each in said)
    checked = [each for each in said if each.ticket in oracle]
    labels = depths = 0
    worst = 0.0
    for each in checked:
        expected = oracle[each.ticket][each.depth - 1]
        logits = torch.tensor(each.logits)
        labels += int(logits.argmax()) == int(expected.argmax())
        depths += each.depth == (layers if full else texts[each.ticket].depth)
        worst = max(worst, float((logits - expected).abs().max()))
    result.label_agreement, result.depth_agreement = labels / len(checked), depths / len(checked)
    result.max_logit_diff = worst


def _settle(lane: _Lane, limit: Mapping[str, float]) -> None:
    rates = [len(lane.texts) / seconds for seconds in lane.seconds]
    middle = statistics.median(rates)
    result = lane.result
    result.texts_per_s, result.slowest, result.fastest = middle, min(rates), max(rates)
    result.slots, result.refills = lane.row.slots, len(lane.texts) / lane.row.slots - 1
    result.share = lane.needed / len(lane.texts) * middle / (limit[lane.row.dtype] * 1e9)


def _compare(results: Sequence[Result]) -> None:
    rates = {result.name: result.texts_per_s for result in results if result.texts_per_s}
    best_peer = max((rates[result.name] for result in results if result.peer and result.name in rates), default=None)
    for result in results:
        if result.texts_per_s:
            result.ratio = result.texts_per_s / rates[BASELINE] if BASELINE in rates else None
            result.ratio_best_peer = result.texts_per_s / best_peer if best_peer else None


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """torch on `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
