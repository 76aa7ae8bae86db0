"""Corrections and deletes from the raw topic to a strategy's state: through a whole stage, live and in a replay."""

import argparse
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import Signal
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.client import Latest, Received, Signals
from earlybird.stream.commands import signals as signals_command
from earlybird.stream.ports import Record
from earlybird.stream.stage.deadlines import ClockLateness
from earlybird.stream.strategies.invented import invented

Worlds = Callable[..., Any]

NOW_US = 1_770_000_000_000_000
HOUR_US = 3_600_000_000
LIFTS, CUTS = "Norvex lifts full-year outlook", "Norvex cuts full-year outlook"
LATER = NOW_US + HOUR_US

# Raw items of one key in the order of the raw topic (None: a null record), and the offset of the one that stands.
CASES: dict[str, tuple[list[dict[str, Any] | None], int | None]] = {
    "an update with equal times": (
        [{"published_us": NOW_US}, {"published_us": NOW_US, "action": "update", "headline": CUTS}],
        1,
    ),
    "an update without any times": ([{}, {"action": "update", "headline": CUTS}], 1),
    "two creates": ([{"published_us": NOW_US}, {"published_us": NOW_US, "headline": CUTS}], 1),
    "a revert": (
        [{"published_us": NOW_US}, {"published_us": NOW_US, "headline": CUTS}, {"published_us": NOW_US}],
        2,
    ),
    "nanoseconds, then a null record": ([{"revision": NOW_US * 1_000}, None], None),
    "revision 5, a delete by time, revision 6": (
        [{"revision": 5}, {"action": "delete", "updated_us": NOW_US}, {"revision": 6, "headline": CUTS}],
        2,
    ),
    "a delete that repeats the publication time": (
        [
            {"published_us": NOW_US},
            {"action": "update", "published_us": NOW_US, "updated_us": LATER, "headline": CUTS},
            {"action": "delete", "published_us": NOW_US},
        ],
        None,
    ),
    "a delete after a create from the future": (
        [{"published_us": NOW_US + 900 * HOUR_US}, {"action": "delete", "updated_us": LATER}],
        None,
    ),
    "a delete with times in milliseconds": (
        [{"published_us": NOW_US}, {"action": "delete", "published_us": NOW_US // 1_000}],
        None,
    ),
    "a delete with an empty symbol": (
        [{"published_us": NOW_US}, {"action": "delete", "symbols": [{"symbol": "", "origin": "provider"}]}],
        None,
    ),
    "a delete of another schema": ([{"published_us": NOW_US}, {"action": "delete", "schema_version": "2.0"}], None),
    "an edit in another language": (
        [{"published_us": NOW_US}, {"published_us": NOW_US, "updated_us": LATER, "lang": "de"}],
        None,
    ),
    "an edit that is too large": ([{"published_us": NOW_US}, {"published_us": NOW_US, "body": "x" * 1_100_000}], None),
    "an edit to nothing": ([{}, {"headline": " "}], None),
    "an edit that is malformed": ([{"revision": 0}, {"revision": 0, "headline": 7}], None),
    "a refused edit, then a good one": (
        [{"updated_us": NOW_US}, {"updated_us": LATER, "lang": "de"}, {"updated_us": LATER, "headline": CUTS}],
        2,
    ),
    "a late old revision after a delete": (
        [{"revision": 1}, {"revision": 3, "action": "delete"}, {"revision": 2, "headline": CUTS}],
        None,
    ),
    "a late old revision that is refused": ([{"revision": 2}, {"revision": 1, "lang": "de"}], 0),
    "an old revision after a refused edit": (
        [{"revision": 1}, {"revision": 3, "lang": "de"}, {"revision": 2, "headline": CUTS}],
        None,
    ),
    "the original again, after its edit": (
        [
            {"published_us": NOW_US},
            {"published_us": NOW_US, "updated_us": LATER, "headline": CUTS},
            {"published_us": NOW_US},
        ],
        1,
    ),
}


def raw(case: str, make_news: Callable[..., Any], make_record: Callable[..., Record]) -> list[Record]:
    items, _ = CASES[case]
    values = [None if item is None else make_news("1", LIFTS) | item for item in items]
    return [make_record(n, value, key="wire:1") for n, value in enumerate(values)]


def offset(state: Signal | None) -> int | None:
    return None if state is None else state.raw.offset


@pytest.mark.parametrize("case", CASES)
def test_the_right_version_stands(
    worlds: Worlds, make_news: Callable[..., Any], make_record: Callable[..., Record], case: str
) -> None:
    """Whatever the order in which signals are read, and again after a crash; live and replayed alike."""
    first, second = worlds(), worlds()
    for world in (first, second):  # the second repeats everything, as after a crash before any commit
        world.source.append(raw(case, make_news, make_record))
        world.finish()
    published = [*first.signals, *second.signals]
    for order in permutations(first.signals):
        latest = Latest[Signal]()
        for signal in [*order, *second.signals[::-1], *order]:
            latest.update(signal)
        assert offset(latest.get("wire:1")) == CASES[case][1]
    replayed = Latest[Received]()
    for received in Signals.replay([(signal, NOW_US + n) for n, signal in enumerate(published)], distinct=True):
        replayed.update(received)
    assert offset(replayed.get("wire:1")) == CASES[case][1]


def test_what_is_shed_when_it_is_read_again_stays(
    worlds: Worlds, make_news: Callable[..., Any], make_record: Callable[..., Record]
) -> None:
    """A worker dies before it commits, and the next one comes too late: what was published of the text holds, in
    whatever order both are read; what stood before it is replaced all the same."""
    records = [make_record(n, make_news("1", text)) for n, text in enumerate((LIFTS, CUTS))]
    first, second = worlds(), worlds(lateness=ClockLateness(shed_after_us=HOUR_US))
    second.clock.advance(2 * HOUR_US)
    for world in (first, second):
        world.source.append(records)
        world.finish()
    assert [rejection.reason for rejection in second.rejections] == [Reason.SHED] * 2
    for order in permutations([*first.signals, *second.signals]):
        latest = Latest[Signal]()
        for signal in order:
            latest.update(signal)
        assert offset(latest.get("wire:1")) == 1


@pytest.mark.parametrize("written", ["BRK-B", "BRK/B", "$BRK.B", "brk.b", " BRK.B ", "BRK_B"])
def test_every_spelling_names_one_instrument_from_the_feed_to_the_strategy(
    worlds: Worlds, make_news: Callable[..., Any], make_record: Callable[..., Record], written: str
) -> None:
    """In the signal, its headers, filters and `about`."""
    world = worlds()
    symbols = [{"symbol": written, "origin": "provider"}, {"symbol": "btc-usd", "origin": "provider"}]
    world.source.append([make_record(0, make_news("1", LIFTS, symbols=symbols))])
    world.finish()
    (signal,) = world.signals
    assert [symbol.symbol for symbol in signal.symbols] == ["BRK.B", "BTC/USD"]
    assert signal.primary_symbol == "BRK.B"
    assert dict(world.sink.sent[0].headers)["symbols"] == b"BRK.B,BTC/USD"
    latest = Latest[Received]()
    for received in Signals.replay([(signal, NOW_US)], symbols=[written]):
        latest.update(received)
    assert len(latest.about(written)) == len(latest.about("BTC.USD")) == 1


@pytest.mark.parametrize("written", ["", " ", "$", "A,B", "A\nB", "x" * 33])
def test_what_can_name_no_instrument_is_refused(
    worlds: Worlds, make_news: Callable[..., Any], make_record: Callable[..., Record], written: str
) -> None:
    """In a raw item by a dead letter, in a filter at the call."""
    world = worlds()
    symbols = [{"symbol": written, "origin": "provider"}]
    world.source.append([make_record(0, make_news("1", LIFTS, symbols=symbols))])
    world.finish()
    (rejection,) = world.rejections
    assert rejection.reason is Reason.MALFORMED and "symbols[0]" in rejection.detail
    with pytest.raises(ValueError, match="matches no signal"):
        Signals.replay([], symbols=[written])
    with pytest.raises(ValueError, match=r"required|allowed"):
        Latest[Signal]().about(written)


def test_a_name_is_its_own_name() -> None:
    """Classes, suffixes, pairs and what nobody can split."""
    names = {
        "vod-l": "VOD.L", "0700.HK": "0700.HK", "BTC/USDT": "BTC/USDT", "btc_usdt-swap": "BTC/USDT-SWAP",
        "eur.usd": "EUR/USD", "nasdaq:nvda": "NASDAQ:NVDA", "^GSPC": "^GSPC", "ES=F": "ES=F", "BTCUSD": "BTCUSD",
        "RDS-B": "RDS.B", "BRK B": "BRK.B", "ＮＶＤＡ": "NVDA", "\u200bNVDA": "NVDA", "ß": "SS",
        "BRK–B": "BRK.B", "BRK\u2011B": "BRK.B", "BRK∕B": "BRK.B", "BRK−B": "BRK.B",
        "NYSE: BRK/B": "NYSE:BRK.B", "btc/usdt:usdt": "BTC/USDT:USDT", "BTC-USDT:USDT-241227": "BTC/USDT:USDT-241227",
    }  # fmt: skip
    assert {written: canonical_symbol(written) for written in names} == names
    assert {name: canonical_symbol(name) for name in names.values()} == {name: name for name in names.values()}


def test_the_command_takes_any_spelling_and_refuses_what_can_never_match(capsys: pytest.CaptureFixture[str]) -> None:
    """`earlybird signals --symbol`."""
    parser = argparse.ArgumentParser()
    signals_command.add_arguments(parser)
    assert parser.parse_args(["--symbol", "nrvx", "--symbol", "$brk-b"]).symbol == ["NRVX", "BRK.B"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--symbol", " "])
    assert "--symbol: ' ' names no instrument" in capsys.readouterr().err


def test_the_command_shows_a_signals_own_headline() -> None:
    """Where the stage was allowed to write it; else the item key, and what is known of the raw record goes first."""
    plain = invented("1", NOW_US)
    told = plain.model_copy(update={"headline": "Norvex lifts outlook"})
    shown = [signals_command._row(signal, known).headline for signal, known in ((plain, ""), (told, ""), (told, "Raw"))]
    assert shown == ["wire:1", "Norvex lifts outlook", "Raw"]
