"""Test doubles for users: sources, sinks, caches and clocks in memory, and invented signals.

    from earlybird import Signals
    from earlybird.testing import invented

    T0 = 1_700_000_000_000_000
    recorded = [(invented("1", T0, 0.9, symbols=["NRVX"]), T0), (invented("2", T0, -0.8), T0 + 1_000)]
    Signals.replay(recorded).on(my_strategy).run()

They keep the promises of the ports (earlybird.stream.ports), faults included; our own tests use them.
"""

from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.adapters.memory import MemoryCache, MemorySink, MemorySource, NoCache
from earlybird.stream.strategies.invented import invented

__all__ = ["ManualClock", "MemoryCache", "MemorySink", "MemorySource", "NoCache", "invented"]
