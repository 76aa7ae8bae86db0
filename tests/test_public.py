"""What users import: few names, on purpose, and the doubles with which they test their strategies."""

import pytest

import earlybird
from earlybird import Signals, testing
from earlybird.testing import ManualClock, MemoryCache, MemorySink, MemorySource, NoCache, invented

T0 = 1_700_000_000_000_000


def test_public_names() -> None:
    """Each of `__all__` can be had, and nothing else."""
    names = ["Label", "Latest", "Received", "Signal", "SignalAction", "Signals", "TopicRange", "Windows"]
    assert earlybird.__all__ == names
    for name in earlybird.__all__:
        assert getattr(earlybird, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Pipeline'"):
        _ = earlybird.Pipeline


def test_a_strategy_is_tested_without_kafka() -> None:
    """As the docstring of earlybird.testing shows it."""
    seen = []
    recorded = [(invented("1", T0, 0.9, symbols=["NRVX"]), T0), (invented("2", T0, -0.8), T0 + 1_000)]
    Signals.replay(recorded).on(lambda signal: seen.append((signal.item_key, signal.label))).run()
    assert seen == [("wire:1", "positive"), ("wire:2", "negative")]


def test_doubles_are_those_of_our_own_tests() -> None:
    """Not a second set of them."""
    assert testing.__all__ == ["ManualClock", "MemoryCache", "MemorySink", "MemorySource", "NoCache", "invented"]
    for double in (ManualClock, MemoryCache, MemorySink, MemorySource, NoCache):
        assert double.__module__.startswith("earlybird.stream.adapters")
