"""A strategy under test, without Kafka: python -m pytest examples/test_strategy.py"""

from strategy import act, positions

from earlybird import SignalAction, Signals
from earlybird.testing import invented

T0 = 1_770_000_000_000_000


def test_a_retraction_closes_the_position() -> None:
    """The strategy may act on a text only while it stands."""
    good = invented("1", T0, score=0.9, symbols=["NRVX"])
    Signals.replay([(good, T0)]).on(act).run()
    assert positions == {"NRVX": 1}
    gone = invented("1", T0, symbols=["NRVX"], revision=1, action=SignalAction.RETRACT)
    Signals.replay([(gone, T0 + 1_000_000)]).on(act).run()
    assert positions == {"NRVX": 0}
