"""An invented recording and invented prices, so that every example runs without a stage.

Six weeks, twelve symbols, one signal per symbol and day at a random time. By construction prices follow the scores a
little, so that there is something to see.
"""

from datetime import UTC, datetime, timedelta
from random import Random

import pandas as pd

from earlybird import Signal
from earlybird.testing import invented

SYMBOLS = ("NRVX", "GRYF", "MERD", "QLBK", "TLMR", "CRBD", "SKYR", "FNTW", "ALTA", "BORE", "CYAN", "DELT")
FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC)  # a Monday
GOOD_FRIDAY = datetime(2026, 4, 3, tzinfo=UTC)
DAYS = [day for number in range(42) if (day := FIRST_DAY + timedelta(days=number)).weekday() < 5 and day != GOOD_FRIDAY]
OPENING, CLOSING = timedelta(hours=13, minutes=30), timedelta(hours=20)  # New York, in UTC


def recording(seed: int = 7) -> list[tuple[Signal, int]]:
    """Signals with the instants when they became available, in that order."""
    random, recorded = Random(seed), []
    for day in DAYS:
        for symbol in SYMBOLS:
            at_us = round((day + timedelta(seconds=random.uniform(0, 86_399))).timestamp() * 1e6)
            score = round(random.uniform(-0.95, 0.95), 6)
            recorded.append((invented(f"{symbol}-{day:%m%d}", at_us, score, symbols=[symbol]), at_us))
    return sorted(recorded, key=lambda pair: pair[1])


def prices(seed: int = 7) -> pd.DataFrame:
    """One row per symbol and day: symbol, date, open, close, adj_close."""
    random = Random(seed + 1)
    known: dict[str, list[tuple[int, float]]] = {symbol: [] for symbol in SYMBOLS}
    for signal, at_us in recording(seed):
        known[signal.symbols[0].symbol].append((at_us, signal.score or 0.0))
    rows, last = [], dict.fromkeys(SYMBOLS, 100.0)
    for day in DAYS:
        opening_us = round((day + OPENING).timestamp() * 1e6)
        for symbol in SYMBOLS:
            score = sum(score for at_us, score in known[symbol] if opening_us - 86_400_000_000 <= at_us < opening_us)
            opening = last[symbol]
            closing = last[symbol] = opening * (1 + 0.004 * score + random.gauss(0, 0.01))
            rows.append((symbol, pd.Timestamp(day.date()), opening, closing, closing))
    return pd.DataFrame(rows, columns=["symbol", "date", "open", "close", "adj_close"])


def daily(symbol: str) -> pd.DataFrame:
    """Daily bars of one symbol, by date: open, high, low, close, volume."""
    table = prices()
    bars = table[table["symbol"] == symbol].set_index("date")[["open", "close"]]
    return bars.assign(high=bars.max(axis="columns"), low=bars.min(axis="columns"), volume=1_000_000)
