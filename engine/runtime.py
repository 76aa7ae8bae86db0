"""How the interpreter is set up for threads that answer one another. Loads no torch: feeders run so, too."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Python hands the interpreter over between threads at this interval; the default of 5 ms adds itself to every latency
# while an engine thread is between two operators. It costs no throughput: 129 us a text at 0.5 ms, 134 at 5 ms.
SWITCH_INTERVAL_S = 0.0005
# Nothing on a text's way holds itself: after 20,000 texts a collection found no object. To look every 700 allocations
# took a sixth of the Python side's time (in memory, no engine, with the freeze: 103 -> 86 us a text, means of 3 runs).
GC_THRESHOLDS = (50_000, 20, 50)


def tune_interpreter() -> None:
    """Set this process up for good, once everything large is loaded."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.collect()
    gc.freeze()  # a full collection over model and libraries holds all threads up: 130 ms, frozen 0
    gc.set_threshold(*GC_THRESHOLDS)


@contextmanager
def interpreter_tuned() -> Iterator[None]:
    """The same for a while."""
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    tune_interpreter()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        sys.setswitchinterval(interval_s)
