"""Windows per symbol: what any order of arrival gives is what sorting and folding gives."""

import doctest
import math
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earlybird.schemas.order import same_result, standing
from earlybird.schemas.raw import RevisionKind
from earlybird.schemas.signal import Novelty, RawPosition, Signal, SignalAction
from earlybird.stream.client import Received, Signals, Windows
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.strategies.invented import invented
from earlybird.stream.views import windows as windows_module
from earlybird.stream.views.history import LARGEST, History
from earlybird.stream.views.mention import Mention
from earlybird.stream.views.windows import Board, Counted, Summary, summarised

START_US = 1_714_571_100_000_000
MINUTE_US = 60_000_000
SYMBOLS = ("NVDA", "AMD")
CORRECT, RETRACT = SignalAction.CORRECT, SignalAction.RETRACT


@st.composite
def received(draw: st.DrawFn) -> Received:
    """One of few items, with every way in which versions differ."""
    at_us = START_US + MINUTE_US * draw(st.integers(0, 30))
    signal = invented(
        draw(st.sampled_from("12")),
        at_us,
        draw(st.sampled_from([-0.9, -0.2, 0.0, 0.4, 0.8])),
        symbols=draw(st.sampled_from([("NVDA",), ("AMD", "NVDA"), ("AMD",), ()])),
        revision=draw(st.integers(0, 3)),
        action=draw(st.sampled_from(list(SignalAction))),
        offset=draw(st.integers(0, 5)),
        kind=draw(st.sampled_from([RevisionKind.COUNTER, RevisionKind.NONE])),
    )
    if signal.action is RETRACT:
        signal = signal.model_copy(update={"refused": draw(st.sampled_from([None, "update"]))})
    raw = RawPosition(topic="news.raw", partition=draw(st.integers(0, 1)), offset=signal.raw.offset)
    later_us = MINUTE_US * draw(st.integers(0, 9))
    times = signal.ts.model_copy(update={"emitted_us": at_us + draw(st.integers(0, 1))})
    return Received.of(signal.model_copy(update={"raw": raw, "ts": times}), at_us + later_us)


def oracle(signals: Sequence[Received], symbol: str, length_us: int, as_of_us: int) -> list[tuple[str, float | None]]:
    """Items of a window: signals in the order of availability, each prefix judged anew."""
    known = sorted(
        (one for one in signals if one.available_us <= as_of_us),
        key=lambda one: (
            one.available_us, one.raw.topic, one.raw.partition, one.raw.offset, one.raw.index, one.revision,
            one.ts.emitted_us, one.digest, one.refused or "", one.revision_kind or "",
        ),
    )  # fmt: skip
    found = []
    for item_key in sorted({one.item_key for one in known}):
        mine = [one for one in known if one.item_key == item_key]
        instants = sorted({one.available_us for one in mine})
        before: Received | None = None
        since_us = 0
        for number, one in enumerate(mine):
            stands = standing(mine[: number + 1])
            if not same_result(before, stands):
                before, since_us = stands, one.available_us
        assert not instants or since_us in (0, *instants)
        if before is not None and since_us > as_of_us - length_us and symbol in before.tickers:
            found.append((item_key, before.score))
    return found


@settings(max_examples=120, deadline=None)
@given(st.lists(received(), max_size=8), st.randoms(use_true_random=False), st.integers(-1, 45), st.integers(1, 50))
def test_any_order_with_copies_gives_what_sorting_and_folding_gives(
    signals: list[Received], random: "object", minute: int, length: int
) -> None:
    """Also at instants of the past."""
    shuffled = [*signals, *signals[:3]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    windows = Windows()
    for one in shuffled:
        windows.apply(one)
    as_of_us = START_US + MINUTE_US * minute
    for symbol in SYMBOLS:
        counted = windows.items(symbol, timedelta(minutes=length), as_of_us=as_of_us)
        told = sorted((one.item_key, one.mention.score) for one in counted)
        assert told == oracle(signals, symbol, MINUTE_US * length, as_of_us)
        summary = windows.summary(symbol, timedelta(minutes=length), as_of_us=as_of_us)
        assert summary.n == len(told)
        assert summary.mean == (math.fsum(score or 0.0 for _, score in told) / len(told) if told else None)


@settings(max_examples=80, deadline=None)
@given(st.lists(received(), max_size=6), st.integers(0, 6))
def test_histories_merge_like_sets(signals: list[Received], cut: int) -> None:
    """Two halves in either order, in one or many steps: the same states."""
    mentions = [Mention.of(one, one.available_us) for one in signals]
    whole = History(mentions)
    halves = History(mentions[cut:])
    halves.add(History(mentions[:cut]).mentions)
    assert halves.states == whole.states and halves.mentions == whole.mentions
    assert not halves.add(mentions)


@settings(max_examples=15, deadline=None)
@given(st.lists(received(), min_size=1, max_size=10), st.integers(1, 40))
def test_windows_agree_with_bars(signals: list[Received], length: int) -> None:
    """A bar that opens just after a window's end holds the same items."""
    pd = pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
    pytest.importorskip("exchange_calendars", reason="NO CALENDARS: pip install -e '.[strategies]'")
    from earlybird.stream.strategies.alignment import How, aligned

    signals = sorted({one.available_us: one for one in signals}.values(), key=lambda one: one.available_us)
    opens = pd.date_range("2024-05-01 13:00", "2024-05-01 15:00", freq=f"{length}min", tz="UTC").as_unit("us")
    played = [(one, one.available_us) for one in signals]
    hows: tuple[How, ...] = ("count", "mean", "last")
    frames = {how: aligned(Signals.replay(played), opens, None, how=how) for how in hows}
    windows = Windows()
    for one in Signals.replay(played):
        windows.apply(one)
    for opening in opens[1:]:
        for symbol in SYMBOLS:
            end_us = int(opening.timestamp() * 1e6) - 1
            summary = windows.summary(symbol, timedelta(minutes=length), as_of_us=end_us)
            bars = {how: frame.get(symbol, pd.Series(dtype=float)).get(opening) for how, frame in frames.items()}
            assert summary.n == (bars["count"] or 0)
            if summary.n:
                assert summary.mean == pytest.approx(bars["mean"]) and summary.last == pytest.approx(bars["last"])


def seen(*signals: Signal) -> Windows:
    windows = Windows()
    for signal in signals:
        windows.apply(Received.of(signal, signal.ts.ingested_us))
    return windows


def test_a_summary_holds_what_a_desk_asks_for() -> None:
    """Counts, means, extremes, the last, duplicates and depth of exit."""
    copy = invented("2", START_US + 1, -0.5).model_copy(update={"novelty": Novelty(cache_hit=True, dup_of="wire:0")})
    windows = seen(invented("1", START_US, 0.9), copy, invented("3", START_US + 2, 0.0, symbols=["nvda", "AMD"]))
    summary = windows.summary("nvda", "5m")
    assert (summary.n, summary.positive, summary.negative) == (3, 1, 1)
    assert summary.mean == pytest.approx(0.4 / 3)
    assert summary.weighted_mean == pytest.approx((0.9 * 0.9 - 0.5 * 0.5) / 2.4)
    assert (summary.minimum, summary.maximum, summary.last, summary.last_us) == (-0.5, 0.9, 0.0, START_US + 2)
    assert summary.duplicate_share == pytest.approx(1 / 3) and summary.exit_depth == pytest.approx(1 / 12)
    assert windows.summary("AMD", "5m").n == 1 and windows.summary("TSLA", "5m") == Summary()


def test_a_window_holds_its_end_and_not_its_beginning() -> None:
    """So windows that meet share no item."""
    windows = seen(invented("1", START_US, 0.9))
    assert windows.summary("NVDA", "5m", as_of_us=START_US).n == 1
    assert windows.summary("NVDA", "5m", as_of_us=START_US + 5 * MINUTE_US - 1).n == 1
    assert windows.summary("NVDA", "5m", as_of_us=START_US + 5 * MINUTE_US).n == 0
    assert windows.summary("NVDA", "5m", as_of_us=START_US - 1).n == 0


def test_a_correction_leaves_the_symbol_that_it_no_longer_names() -> None:
    """And a retraction that names no symbol takes the item from all."""
    first = invented("1", START_US, 0.9, symbols=["NVDA", "AMD"])
    corrected = invented("1", START_US + MINUTE_US, -0.9, symbols=["AMD"], revision=1, action=CORRECT)
    windows = seen(first, corrected)
    assert windows.summary("NVDA", "15m").n == 0
    assert windows.summary("NVDA", "15m", as_of_us=START_US).n == 1
    assert windows.summary("AMD", "15m").last == -0.9
    gone = invented("1", START_US + 2 * MINUTE_US, None, symbols=[], revision=1, action=RETRACT)
    windows.apply(Received.of(gone, gone.ts.ingested_us))
    assert windows.summary("AMD", "15m").n == 0


def test_decay_halves_a_weight_per_half_life() -> None:
    """The mean of one item stays, its weight goes."""
    windows = seen(invented("1", START_US, 0.8), invented("2", START_US + 60 * MINUTE_US, -0.8))
    decayed = windows.decayed("NVDA", "1h")
    assert decayed.weight == pytest.approx(0.8 * 1.5)
    assert decayed.mean == pytest.approx((0.8 * 0.5 - 0.8) / 1.5)


def test_memory_is_bounded_by_time() -> None:
    """Items older than what is kept are forgotten as newer ones come."""
    windows = Windows(keep="1h")
    for number in range(500):
        at_us = START_US + number * MINUTE_US
        windows.apply(Received.of(invented(str(number), at_us), at_us))
        assert len(windows) <= 60 * (1 + 1 / 16) + 1
    assert windows.summary("NVDA", "1h").n == 60


def test_an_item_with_very_many_versions_keeps_the_one_that_stands() -> None:
    """Its memory is bounded too."""
    history = History()
    for number in range(3 * LARGEST):
        signal = invented("1", START_US + number, 0.5, revision=number, action=CORRECT)
        history.add([Mention.of(signal, START_US + number)])
    assert len(history.mentions) == LARGEST
    stands = history.states[-1].mention
    assert stands is not None and stands.revision == 3 * LARGEST - 1


def test_a_series_splits_a_window_into_equal_parts() -> None:
    """The latest last; parts without news hold nothing."""
    board = Board()
    for number in (0, 1, 3):
        mention = Mention.of(invented(str(number), START_US, 0.9 - number / 10), START_US + number * MINUTE_US)
        board.put("NVDA", f"wire:{number}", History([mention]))
    series = board.series("NVDA", 4 * MINUTE_US, 4, START_US + 3 * MINUTE_US)
    assert series == [pytest.approx(0.9), pytest.approx(0.8), None, pytest.approx(0.6)]
    assert summarised(board.counted("NVDA", MINUTE_US, START_US)) == summarised(
        [Counted(START_US, "wire:0", Mention.of(invented("0", START_US, 0.9), START_US))]
    )


def test_the_example_of_the_documentation_holds() -> None:
    """As it stands in the module."""
    configure_logging("error", "console")
    assert doctest.testmod(windows_module).failed == 0


@pytest.mark.parametrize("given", ["0", "15", "-5m"])
def test_a_window_without_a_length_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="window"):
        Windows().summary("NVDA", given)
