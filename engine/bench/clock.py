"""CPU-time clocks, so that other load on the machine changes measurements little."""

import statistics
import time
from collections.abc import Callable

import torch


def stopwatch(*, wall: bool = False) -> Callable[[], float]:
    """Start a stopwatch that returns seconds since this call.

    It counts CPU time on one thread, and wall-clock time on several, where CPU time adds up. `wall`: use wall-clock
    time, because another device does the work; the stopwatch then starts once the card has finished earlier work.
    """
    if wall and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    clock = time.perf_counter if wall or torch.get_num_threads() > 1 else time.process_time
    start = clock()
    return lambda: clock() - start


def spent(work: Callable[[], object], tries: int = 5, least: float = 0.02, device: torch.device | None = None) -> float:
    """Measure the seconds of one call: the median of `tries` runs.

    Each run takes at least `least` seconds. A first call is not counted, but it is the result if it takes far longer.
    On a CUDA device a run ends when the device is done.
    """

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
    """Block until the device has finished its queued work."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
