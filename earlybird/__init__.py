"""Sentiment signals from news and tweets, live and replayed: the names that a strategy imports.

Names load on first use, so that `import earlybird` costs nothing and needs neither Kafka nor torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from earlybird.schemas.signal import Label, Signal, SignalAction
    from earlybird.stream.client import Latest, Received, Signals, TopicRange, Windows

__all__ = ["Label", "Latest", "Received", "Signal", "SignalAction", "Signals", "TopicRange", "Windows"]

_HOMES = {
    "Label": "earlybird.schemas.signal",
    "Latest": "earlybird.stream.client",
    "Received": "earlybird.stream.client",
    "Signal": "earlybird.schemas.signal",
    "SignalAction": "earlybird.schemas.signal",
    "Signals": "earlybird.stream.client",
    "TopicRange": "earlybird.stream.client",
    "Windows": "earlybird.stream.client",
}


def __getattr__(name: str) -> object:
    """Load a public name from the module that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'earlybird' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
