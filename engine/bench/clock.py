"""Time that was worked, and not time that went by: neighbours on the machine then change little."""

import statistics
import time
from collections.abc import Callable

import torch


def stopwatch() -> Callable[[], float]:
    """Seconds since this call: of CPU time on one thread, of wall clock on several, where CPU time adds up."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    return lambda: clock() - start


def spent(work: Callable[[], object], tries: int = 5, least: float = 0.02) -> float:
    """Seconds that one call takes: the median of `tries` runs of at least `least` seconds, after a first one."""
    work()
    found = []
    for _ in range(tries):
        calls, elapsed = 0, stopwatch()
        while elapsed() < least:
            work()
            calls += 1
        found.append(elapsed() / calls)
    return statistics.median(found)
