"""Signals on bars: each in the next bar after it could be known, and no bar knows of a later one."""

from collections.abc import Sequence
from datetime import datetime, time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earlybird.schemas.raw import RevisionKind
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.client import Signals
from earlybird.stream.strategies.invented import invented

pd = pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
pytest.importorskip("exchange_calendars", reason="NO CALENDARS: pip install -e '.[strategies]'")

from earlybird.stream.strategies.bars import to_bars  # noqa: E402
from earlybird.stream.strategies.calendars import Hours  # noqa: E402

NEW_YORK = "America/New_York"
CORRECT, RETRACT = SignalAction.CORRECT, SignalAction.RETRACT


def us(local: str, tz: str = NEW_YORK) -> int:
    return int(datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(tz)).timestamp()) * 1_000_000


def seen(*signals: Signal) -> Signals:
    """As the client gives them; each becomes available when it came to be."""
    return Signals.replay(sorted(((signal, signal.ts.ingested_us) for signal in signals), key=lambda pair: pair[1]))


def bar_of(local: str, freq: str, calendar: Any = "XNYS", lag_us: int = 0, tz: str = NEW_YORK) -> str:
    """The local name of the bar in which something known at this instant lands."""
    frame = to_bars(seen(invented("1", us(local, tz))), calendar, freq, lag_us=lag_us)
    (label,) = frame.index
    return str(label.tz_convert(tz).tz_localize(None) if label.tz else label.date())


@pytest.mark.parametrize(
    ("known", "session"),
    [
        ("2024-01-05 08:00", "2024-01-05"),  # before the opening
        ("2024-01-05 09:29:59", "2024-01-05"),
        ("2024-01-05 09:30", "2024-01-08"),  # at the opening it is too late for it
        ("2024-01-05 15:00", "2024-01-08"),
        ("2024-01-06 12:00", "2024-01-08"),  # a weekend's tweet
        ("2024-01-12 18:00", "2024-01-16"),  # over a weekend and Martin Luther King's day
        ("2024-07-03 14:00", "2024-07-05"),  # after a half day's close, before a holiday
    ],
)
def test_a_signal_lands_in_the_next_session(known: str, session: str) -> None:
    """By the exchange's own calendar."""
    assert bar_of(known, "1D") == session


@pytest.mark.parametrize(
    ("known", "bar"),
    [
        ("2024-01-05 10:10", "2024-01-05 10:30:00"),
        ("2024-01-05 10:30", "2024-01-05 11:00:00"),
        ("2024-01-05 15:40", "2024-01-08 09:30:00"),  # nothing opens at the close
        ("2024-07-03 12:20", "2024-07-03 12:30:00"),
        ("2024-07-03 12:40", "2024-07-05 09:30:00"),  # a half day ends at 13:00
        ("2024-03-08 20:00", "2024-03-11 09:30:00"),  # clocks go forward in between
        ("2024-11-01 20:00", "2024-11-04 09:30:00"),  # and back
    ],
)
def test_a_signal_lands_in_the_next_bar_of_a_session(known: str, bar: str) -> None:
    """Daylight saving, half days and weekends included."""
    assert bar_of(known, "30min") == bar


def test_a_lag_moves_a_signal_to_a_later_bar() -> None:
    """What the strategy's own path takes is not free."""
    assert bar_of("2024-01-05 10:29:59", "30min") == "2024-01-05 10:30:00"
    assert bar_of("2024-01-05 10:29:59", "30min", lag_us=1_000_000) == "2024-01-05 11:00:00"


def test_lunch_breaks_have_no_bars() -> None:
    """Tokyo rests from 11:30 to 12:30."""
    assert bar_of("2024-01-05 11:10", "30min", "XTKS", tz="Asia/Tokyo") == "2024-01-05 12:30:00"


@pytest.mark.parametrize(
    ("known", "bar"),
    [
        ("2024-03-30 12:00", "2024-04-02 09:00:00"),  # clocks go forward on the 31st, the 1st is a holiday here
        ("2024-04-02 16:40", "2024-04-02 17:00:00"),
        ("2024-04-02 17:10", "2024-04-03 09:00:00"),
    ],
)
def test_hours_of_ones_own_follow_the_local_clock(known: str, bar: str) -> None:
    """For a market that no calendar knows."""
    hours = Hours("Europe/Berlin", time(9), time(17, 30), holidays=["2024-04-01"])
    assert bar_of(known, "1h", hours, tz="Europe/Berlin") == bar


def test_a_market_may_never_close() -> None:
    """Around the clock, every day."""
    hours = Hours("UTC", time(0), time(0), days=range(7))
    assert bar_of("2024-01-06 23:40", "1h", hours, tz="UTC") == "2024-01-07 00:00:00"


def test_a_signal_lands_in_the_bar_that_closes_next() -> None:
    """Known while a bar runs, it may be traded at that bar's close; the bars keep their labels."""
    signals = [
        invented("1", us("2024-07-03 12:59"), 0.4),
        invented("2", us("2024-07-03 13:00"), 0.8),
    ]  # closes at 13:00
    sessions = to_bars(seen(*signals), at="close")
    assert {str(day.date()): score for day, score in sessions["NVDA"].items()} == {"2024-07-03": 0.4, "2024-07-05": 0.8}
    hours = to_bars(seen(*signals), freq="1h", at="close")["NVDA"].dropna()
    local = [str(label.tz_convert(NEW_YORK).tz_localize(None)) for label in hours.index]
    assert local == ["2024-07-03 12:30:00", "2024-07-05 09:30:00"]  # the last bar of a half day is half an hour long
    own = Hours(NEW_YORK, time(9, 30), time(13))
    assert to_bars(seen(*signals), own, "1h", at="close")["NVDA"].dropna().index[0] == hours.index[0]


def test_signals_of_a_bar_are_put_together_by_symbol() -> None:
    """A column a symbol, every bar in between, nothing where nothing was said."""
    signals = [
        invented("1", us("2024-01-05 10:01"), 0.8, symbols=["NVDA", "AMD"]),
        invented("2", us("2024-01-05 10:02"), 0.2),
        invented("3", us("2024-01-05 11:10"), -0.6, symbols=["AMD"]),
    ]
    frame = to_bars(seen(*signals), freq="30min")
    assert list(frame.columns) == ["AMD", "NVDA"]
    assert frame["AMD"].tolist() == pytest.approx([0.8, float("nan"), -0.6], nan_ok=True)
    assert frame["NVDA"].tolist() == pytest.approx([0.5, float("nan"), float("nan")], nan_ok=True)
    assert to_bars(seen(*signals), freq="30min", how="count").to_dict("list") == {"AMD": [1, 0, 1], "NVDA": [2, 0, 0]}
    assert to_bars(seen(*signals), freq="30min", how="last")["NVDA"].iloc[0] == 0.2


def test_corrections_and_retractions_count_from_when_they_were_known() -> None:
    """Within a bar they replace; a bar that has opened is never changed afterwards."""
    signals = [
        invented("a", us("2024-01-05 10:01"), 0.8),
        invented("a", us("2024-01-05 10:05"), -0.4, revision=1, action=CORRECT),
        invented("b", us("2024-01-05 10:06"), 0.9, symbols=["AMD"]),
        invented("b", us("2024-01-05 10:40"), revision=1, action=RETRACT, symbols=[]),
        invented("a", us("2024-01-05 10:41"), 0.3, revision=2, action=CORRECT),
        invented("c", us("2024-01-05 10:42"), 0.9),
        invented("c", us("2024-01-05 10:43"), revision=1, action=RETRACT),
        invented("a", us("2024-01-05 10:50"), 0.8),  # the first revision once more
    ]
    frame = to_bars(seen(*signals), freq="30min")
    assert frame["NVDA"].tolist() == [-0.4, 0.3]
    assert frame["AMD"].iloc[0] == 0.9 and pd.isna(frame["AMD"].iloc[1])


def test_a_bar_holds_what_stands_not_what_came_last() -> None:
    """Read out of order: the fourth signal says that the second is old, so the first stands again; equal times go by
    the raw topic."""
    none = RevisionKind.NONE
    signals = [
        invented("a", us("2024-01-05 10:01"), 0.5, offset=2, kind=none),
        invented("a", us("2024-01-05 10:02"), 0.9, revision=4, offset=3, symbols=["AMD"]),
        invented("b", us("2024-01-05 10:03"), 0.7, offset=1, kind=none),
        invented("a", us("2024-01-05 10:04"), 0.1, revision=5, offset=1, symbols=["AMD"]),
        invented("b", us("2024-01-05 10:05"), -0.7, offset=0, kind=none),
        invented("b", us("2024-01-05 10:06"), 0.3, offset=2, kind=none),
    ]
    frame = to_bars(seen(*signals), freq="30min", how="sum")
    assert frame.to_dict("list") == {"NVDA": [pytest.approx(0.8)]}


def test_nothing_gives_an_empty_frame() -> None:
    """No signals, or retractions alone."""
    assert to_bars(seen()).empty
    assert to_bars(seen(invented("1", us("2024-01-05 10:01"), action=RETRACT))).empty


def test_a_frequency_that_is_no_length_is_refused() -> None:
    """Weeks and months have no opening of their own."""
    with pytest.raises(ValueError, match="below a day"):
        to_bars(seen(invented("1", us("2024-01-05 10:01"))), freq="3D")


@settings(deadline=None, max_examples=40)
@given(
    minutes=st.lists(st.tuples(st.integers(0, 4000), st.integers(-9, 9)), min_size=1, max_size=20),
    cut=st.integers(0, 4000),
)
def test_bars_that_opened_never_learn_of_later_signals(minutes: Sequence[tuple[int, int]], cut: int) -> None:
    """A frame computed at any instant agrees with the one computed after everything, up to that instant."""
    begin = us("2024-01-04 09:00")
    signals = [
        invented(str(number % 5), begin + minute * 60_000_000, score / 10, revision=number, action=CORRECT)
        for number, (minute, score) in enumerate(sorted(minutes))
    ]
    known = [signal for signal in signals if signal.ts.ingested_us <= begin + cut * 60_000_000]
    instant = pd.Timestamp(begin + cut * 60_000_000, unit="us", tz="UTC")
    whole, then = to_bars(seen(*signals), freq="30min"), to_bars(seen(*known), freq="30min")
    opened = whole[whole.index <= instant] if len(whole) else whole
    before = then[then.index <= instant] if len(then) else then
    assert opened["NVDA"].dropna().to_dict() == before["NVDA"].dropna().to_dict() if len(opened) else before.empty
