"""Time that was worked, and not time that went by: neighbours on the machine then change little."""

import statistics
import time
from collections.abc import Callable

import torch


def stopwatch(*, wall: bool = False) -> Callable[[], float]:
    """Seconds since this call: of CPU time on one thread; of wall clock on several, where CPU time adds up, and where
    `wall` says that somebody else does the work; then it starts once a card has nothing left of what went before."""
    if wall and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    clock = time.perf_counter if wall or torch.get_num_threads() > 1 else time.process_time
    start = clock()
    return lambda: clock() - start


def spent(work: Callable[[], object], tries: int = 5, least: float = 0.02, device: torch.device | None = None) -> float:
    """Seconds that one call takes: the median of `tries` runs of at least `least` seconds, after a first one, which
    counts by itself if it takes far longer. On a CUDA device until the device is done."""

    def run(calls: int) -> float:
        wait(device)
        elapsed = stopwatch(wall=device is not None and device.type == "cuda")
        for _ in range(calls):
            work()
        wait(device)
        return elapsed()

    if (first := run(1)) > 5 * least:
        return first
    calls = 1
    while (took := run(calls)) < least:
        calls = max(calls + 1, min(100 * calls, int(1.2 * calls * least / max(took, 1e-9))))
    return statistics.median([took, *(run(calls) for _ in range(tries - 1))]) / calls


def wait(device: torch.device | None) -> None:
    """Until the device has done what it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
