"""Event study of archived signals against daily prices: whether prices follow the scores.

Extra `strategies`.

    python -m earlybird.stream.strategies.event_study archive/ prices.csv [--calendar XNYS] [--lag-us 500000] [--json]

Prices: CSV (.zst, .gz too) with symbol (in any spelling), date, open, close, adj_close. For each symbol, the scores
known before a session's opening are averaged; symbol-days are sorted into deciles of that score. Reported is the mean
abnormal return (over the equally weighted mean of all symbols in the file) in that session, open to close, and of the
day after, from adjusted close to adjusted close. Standard errors are clustered by day. The placebo shuffles the dates
of each symbol's scores many times: it counts how often chance alone makes as wide a spread.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.client import Received, Signals
from earlybird.stream.errors import StreamError
from earlybird.stream.publishing.compression import DAMAGED, unpacked
from earlybird.stream.strategies.bars import to_bars
from earlybird.stream.timeline.instants import written
from earlybird.stream.timeline.knowledge import in_sample

BASIS_POINTS = 1e4
_COLUMNS = ("symbol", "date", "open", "close", "adj_close")
_HINT = (
    "Was the history fed later than it happened? `earlybird replay recorded --available ingested` dates its signals by "
    "their texts"
)


@dataclass(frozen=True, slots=True)
class Decile:
    """Symbol-days of one tenth of the scores; returns in basis points."""

    decile: int
    symbol_days: int
    score: float
    session_bp: float
    session_error_bp: float
    next_day_bp: float
    next_day_error_bp: float


@dataclass(frozen=True, slots=True)
class Study:
    """Results of an event study, whether prices follow the scores or not."""

    in_sample: bool  # the model may have learned from some of the texts
    signals: int
    days: int
    deciles: tuple[Decile, ...]
    spread_session_bp: float  # top minus bottom decile
    spread_session_placebo: float  # share of placebos with a spread at least as wide, either way
    spread_next_day_bp: float
    spread_next_day_placebo: float


def study(
    signals: Iterable[Received],
    prices: pd.DataFrame,
    *,
    calendar: str = "XNYS",
    lag_us: int = 0,
    placebos: int = 200,
    seed: int = 13,
) -> Study:
    """Run the event study of these signals on these prices.

    Raises ValueError when no symbol-day has both a score and a price, and for prices without a required column.
    """
    if missing := [name for name in _COLUMNS if name not in prices.columns]:
        raise ValueError(f"prices: columns {', '.join(_COLUMNS)} required, {', '.join(missing)} not there")
    seen = _Seen(signals)
    scores = to_bars(seen, calendar, "1D", lag_us=lag_us)
    events = _events(scores, prices)
    if events.empty:
        raise ValueError(f"no symbol-day has both a score and a price: {seen}, {_extent(prices)}. {_HINT}")
    deciles = _decile_of(events["score"])
    spreads = [_spread(events[column], deciles) for column in ("session", "next_day")]
    rng = np.random.default_rng(seed)
    wider = np.zeros(2)
    for _ in range(placebos):
        shuffled = _decile_of(events.groupby("symbol")["score"].transform(lambda s: rng.permutation(s.to_numpy())))
        for place, column in enumerate(("session", "next_day")):
            wider[place] += abs(_spread(events[column], shuffled)) >= abs(spreads[place])
    return Study(
        in_sample=seen.in_sample,
        signals=seen.count,
        days=events["date"].nunique(),
        deciles=tuple(_decile(events[deciles == number], number) for number in range(1, 11)),
        spread_session_bp=spreads[0] * BASIS_POINTS,
        spread_session_placebo=float(wider[0] / placebos),
        spread_next_day_bp=spreads[1] * BASIS_POINTS,
        spread_next_day_placebo=float(wider[1] / placebos),
    )


class _Seen:
    """Passes signals on, counts them and notes whether any is in sample."""

    def __init__(self, signals: Iterable[Received]) -> None:
        self._signals, self.count, self.in_sample = signals, 0, False
        self._first_us = self._last_us = 0

    def __iter__(self) -> Iterator[Received]:
        for signal in self._signals:
            self._first_us = self._first_us or signal.available_us
            self._last_us = signal.available_us
            self.count += 1
            self.in_sample |= in_sample(signal, signal.available_us)
            yield signal

    def __str__(self) -> str:
        days = f" known from {written(self._first_us)[:10]} to {written(self._last_us)[:10]}" if self.count else ""
        return f"{self.count:,} signals{days}"


def _events(scores: pd.DataFrame, prices: pd.DataFrame) -> pd.DataFrame:
    """Return one row per symbol-day: score, and abnormal returns as fractions."""
    prices = prices.assign(symbol=prices["symbol"].map(canonical_symbol, na_action="ignore")).sort_values(
        ["symbol", "date"]
    )
    by_symbol = prices.groupby("symbol")
    returns = pd.DataFrame(
        {
            "symbol": prices["symbol"],
            "date": prices["date"],
            "session": prices["close"] / prices["open"] - 1,
            "next_day": by_symbol["adj_close"].shift(-1) / prices["adj_close"] - 1,
        }
    )
    for column in ("session", "next_day"):
        returns[column] -= returns.groupby("date")[column].transform("mean")
    if scores.empty:
        return returns.assign(score=np.nan).iloc[:0]
    long = scores.rename_axis(index="date", columns="symbol").stack().rename("score").reset_index()
    return long.merge(returns, on=["symbol", "date"]).dropna()


def _extent(prices: pd.DataFrame) -> str:
    if prices.empty:
        return "no prices"
    symbols, first, last = prices["symbol"].nunique(), prices["date"].min(), prices["date"].max()
    return f"prices of {symbols:,} symbols from {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _decile_of(scores: pd.Series) -> pd.Series:
    """Return deciles from 1, the most negative tenth, to 10.

    Equal scores are split by their order, so that the tenths have equal sizes.
    """
    return (scores.rank(method="first") - 1) * 10 // len(scores) + 1


def _spread(returns: pd.Series, deciles: pd.Series) -> float:
    return float(returns[deciles == 10].mean() - returns[deciles == 1].mean())


def _decile(events: pd.DataFrame, number: int) -> Decile:
    session, next_day = (events[column] for column in ("session", "next_day"))
    return Decile(
        number,
        len(events),
        float(events["score"].mean()),
        float(session.mean() * BASIS_POINTS),
        _clustered_error(session, events["date"]) * BASIS_POINTS,
        float(next_day.mean() * BASIS_POINTS),
        _clustered_error(next_day, events["date"]) * BASIS_POINTS,
    )


def _clustered_error(returns: pd.Series, days: pd.Series) -> float:
    """Return the standard error of the mean, clustered by day.

    Returns of one day move together, so residuals are summed per day before squaring.
    """
    residuals = (returns - returns.mean()).groupby(days).sum()
    clusters = len(residuals)
    if clusters < 2:
        return float("nan")
    return float(np.sqrt((residuals**2).sum() * clusters / (clusters - 1)) / len(returns))


def read_prices(path: Path) -> pd.DataFrame:
    """Read daily prices from a CSV, plain, .gz or .zst.

    Raises ValueError, or one of compression.DAMAGED.
    """
    with path.open("rb") as packed:
        return pd.read_csv(unpacked(packed, path.suffix), parse_dates=["date"])


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, or --json; exit with 2 where there is nothing to study."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path, help="what `earlybird archive` or `earlybird replay` wrote")
    parser.add_argument("prices", type=Path, help="CSV with symbol, date, open, close, adj_close")
    parser.add_argument("--calendar", default="XNYS", help="the exchange's MIC (default: XNYS)")
    parser.add_argument("--lag-us", type=int, default=500_000, help="your own path, in microseconds (500000)")
    parser.add_argument("--placebos", type=int, default=200, help="shuffles of the dates (200)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args(argv)
    try:
        prices = read_prices(args.prices)
        signals = Signals.replay(args.archive)
        result = study(signals, prices, calendar=args.calendar, lag_us=args.lag_us, placebos=args.placebos)
    except (ValueError, StreamError, *DAMAGED) as error:
        print(f"event_study: {error}", file=sys.stderr)
        return 2
    if args.json:
        print(json.dumps(asdict(result)))
        return 0
    print(
        "IN SAMPLE: the model may have learned from texts of this time or later"
        if result.in_sample
        else "out of sample"
    )
    print(f"{result.signals:,} signals on {result.days} days; abnormal returns in basis points, (standard error)")
    print(f"{'decile':>6} {'n':>7} {'score':>7} {'session':>16} {'next day':>16}")
    for d in result.deciles:
        session = f"{d.session_bp:+.1f} ({d.session_error_bp:.1f})"
        next_day = f"{d.next_day_bp:+.1f} ({d.next_day_error_bp:.1f})"
        print(f"{d.decile:>6} {d.symbol_days:>7,} {d.score:>+7.2f} {session:>16} {next_day:>16}")
    print(f"10 - 1: session {result.spread_session_bp:+.1f}, placebo p {result.spread_session_placebo:.3f}; ", end="")
    print(f"next day {result.spread_next_day_bp:+.1f}, placebo p {result.spread_next_day_placebo:.3f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
