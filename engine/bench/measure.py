"""One benchmark run: rows in turn, round after round, with all results checked.

Each result is compared with the oracle's.
"""

import math
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from earlybird.engine.bench.clock import stopwatch
from earlybird.engine.bench.limit import peaks
from earlybird.engine.bench.ours import elbert
from earlybird.engine.bench.row import BenchRow, Build, RowResult, Setting
from earlybird.engine.bench.workload import BLOCK, BenchText
from earlybird.engine.device.tiling import KINDS
from earlybird.engine.errors import ConfigError
from earlybird.engine.exits.fixed import FullDepth
from earlybird.engine.flops import flops
from earlybird.engine.slots.reference import trace
from earlybird.engine.types import Request

PART = 8  # texts of a row's first trial, at most its slots
REFILLS = 20  # per slot; with fewer, mostly the emptying of the slots at the end is measured
MISSING = "not installed: install the extra 'bench', in a checkout pip install -e '.[bench]'"
BASELINE = "hf_batch1"
_DETERMINISTIC = re.compile(rf"_deterministic(_({'|'.join(KINDS)}))?$")  # suffix of a deterministic row's name


@dataclass(frozen=True, slots=True)
class RunLength:
    """Length of a run.

    `seconds`: approximate time per row and round; every row runs at least one block. `enough`: seconds after which no
    new round begins.
    """

    rounds: int
    seconds: float
    longest_s: float  # seconds; a slower row runs a block once, or part of it; slot rows may take 3 times that
    checked: int  # texts that are compared with the oracle
    enough: float = math.inf


@dataclass(slots=True)
class Result:
    """A row's figures, or a `note` where it could not run."""

    name: str
    note: str = ""
    dtype: str = ""
    peer: bool = False
    slots: int = 0
    refilled: bool = False
    texts: int = 0
    refills: float = 0.0
    texts_per_s: float | None = None
    slowest: float | None = None  # slowest round
    fastest: float | None = None
    ratio: float | None = None  # relative to BASELINE
    ratio_best_peer: float | None = None
    share: float | None = None  # of the limit: the operations of true lengths and depths at the GEMM's peak
    label_agreement: float | None = None  # share of texts that agree with the oracle
    depth_agreement: float | None = None
    max_logit_diff: float | None = None


@dataclass(slots=True)
class _RunningRow:
    """A row in progress."""

    result: Result
    row: BenchRow
    texts: Sequence[BenchText]
    average: float  # the texts' work in average texts: part of a block may be light or heavy
    needed: float  # operations of an average text
    seconds: list[float] = field(default_factory=list)
    done: bool = False  # too slow for further rounds


def measure(
    builds: Mapping[str, Build],
    setting: Setting,
    texts: Sequence[BenchText],
    run_length: RunLength,
    progress: Callable[[str], None],
) -> tuple[dict[str, float], list[Result]]:
    """Measure the limit by dtype in G/s, and each row in order.

    `texts`: whole blocks, the most that a row gets. `progress` receives progress messages.
    """
    results, rows = [], []
    wall = setting.device.type == "cuda"
    with torch_threads(setting.threads):
        so_far = stopwatch(wall=wall)
        progress("oracle")
        oracle = _oracle(setting, texts[: run_length.checked])
        for name, build in builds.items():
            progress(f"{name}: build and first block")
            result, running = _prepare(name, build, setting, texts, run_length, oracle)
            results.append(result)
            rows += [running] if running else []
        for number in range(run_length.rounds):
            if number and so_far() > run_length.enough:
                break
            for running in (running for running in rows if not running.done):
                progress(f"round {number + 1} of {run_length.rounds}: {running.result.name}")
                elapsed = stopwatch(wall=wall)
                running.row.run(running.texts)
                running.seconds.append(elapsed())
        progress("limit")
        dtypes = [running.row.dtype for running in rows]
        limit = peaks(setting.config, [*dtypes, "bfloat16"] if wall else dtypes, setting.device)
    for running in rows:
        _finish(running, limit["bfloat16" if wall else running.row.dtype])
    _compare(results)
    return limit, results


def _prepare(
    name: str,
    build: Build,
    setting: Setting,
    texts: Sequence[BenchText],
    run_length: RunLength,
    oracle: Mapping[int, torch.Tensor],
) -> tuple[Result, _RunningRow | None]:
    wall = setting.device.type == "cuda"
    try:
        row = build(setting)
        row.run(texts[: max(BLOCK, row.slots) if wall else 2])  # warm-up: a device compiles and captures
    except ModuleNotFoundError as error:
        return Result(name, note=f"{error.name} {MISSING}"), None
    except ConfigError as error:
        return Result(name, note=str(error)), None
    except Exception as error:
        if not wall:
            raise
        # Errors of compilers and cards in one row must not end the other rows.
        return Result(name, note=f"{type(error).__name__}: {error}"[:200]), None

    def timed(count: int) -> tuple[list[RowResult], float]:
        elapsed = stopwatch(wall=wall)
        return list(row.run(texts[:count])), elapsed()

    part = min(BLOCK, max(PART, row.slots))
    results, took = timed(part)
    slow = took > run_length.longest_s * part / BLOCK
    if not slow:
        part = BLOCK
        results, took = timed(BLOCK)
    own_texts = texts[:part] if slow else texts[: BLOCK * _blocks(row, took, run_length, len(texts) // BLOCK)]
    if not slow and run_length.checked > BLOCK:
        results += row.run(texts[BLOCK : run_length.checked])
    result = Result(
        name, "", row.dtype, row.peer, row.slots, row.refilled, len(own_texts), len(own_texts) / row.slots - 1
    )
    _check(result, results, texts, oracle)
    layers = setting.config.layers
    full = all(each.exit_layer == layers for each in results)

    def needed(some: Sequence[BenchText]) -> float:
        return sum(flops(setting.config, len(text.ids), layers if full else text.depth) for text in some)

    mean = needed(texts[:BLOCK]) / BLOCK
    return result, _RunningRow(result, row, own_texts, needed(own_texts) / mean, mean, [took] if slow else [], slow)


def _blocks(row: BenchRow, block_s: float, run_length: RunLength, most: int) -> int:
    """Return the number of text blocks per round of this row."""
    by_time = round(run_length.seconds / block_s)
    if row.refilled:
        by_time = max(
            by_time, min(math.ceil((REFILLS + 1) * row.slots / BLOCK), int(3 * run_length.longest_s / block_s))
        )
    return max(math.ceil(row.slots / BLOCK), min(most, by_time))


def _oracle(setting: Setting, texts: Sequence[BenchText]) -> dict[int, torch.Tensor]:
    """Compute each ticket's logits (layers, C) after every pass.

    One text at a time, in float32.
    """
    model, policy = elbert(setting, "float32", True), FullDepth()
    return {text.ticket: trace(model, policy, Request(text.ticket, text.ids)).logits for text in texts}


def _check(
    result: Result, results: Sequence[RowResult], texts: Sequence[BenchText], oracle: Mapping[int, torch.Tensor]
) -> None:
    """Compare a row's results with the oracle.

    A row without early exits is correct if it returns the last layer's result for all texts.
    """
    layers = len(next(iter(oracle.values())))
    full = all(each.exit_layer == layers for each in results)
    checked = [each for each in results if each.ticket in oracle]
    labels = depths = 0
    worst = 0.0
    for each in checked:
        expected = oracle[each.ticket][each.exit_layer - 1]
        logits = torch.tensor(each.logits)
        labels += int(logits.argmax()) == int(expected.argmax())
        depths += each.exit_layer == (layers if full else texts[each.ticket].depth)
        worst = max(worst, float((logits - expected).abs().max()))
    result.label_agreement, result.depth_agreement = labels / len(checked), depths / len(checked)
    result.max_logit_diff = worst


def _finish(running: _RunningRow, limit: float) -> None:
    rates = [running.average / seconds for seconds in running.seconds]
    middle = statistics.median(rates)
    result = running.result
    result.texts_per_s, result.slowest, result.fastest = middle, min(rates), max(rates)
    result.slots, result.refills = running.row.slots, len(running.texts) / running.row.slots - 1
    result.share = running.needed * middle / (limit * 1e9)


def _compare(results: Sequence[Result]) -> None:
    rates = {result.name: result.texts_per_s for result in results if result.texts_per_s}
    best_peer = max((rates[result.name] for result in results if result.peer and result.name in rates), default=None)
    for result in results:
        if result.texts_per_s:
            result.ratio = result.texts_per_s / rates[BASELINE] if BASELINE in rates else None
            result.ratio_best_peer = result.texts_per_s / best_peer if best_peer else None


def deterministic(results: Sequence[Result]) -> dict[str, float]:
    """Return each deterministic row's extra time, as a share of its fast row's."""
    rates = {result.name: result.texts_per_s for result in results if result.texts_per_s}
    fast = {name: rates.get(_DETERMINISTIC.sub("", name)) for name in rates if _DETERMINISTIC.search(name)}
    return {name: rate / rates[name] - 1 for name, rate in fast.items() if rate}


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Run torch on `count` threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
