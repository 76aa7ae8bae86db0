"""Messages about a board: one symbol, or all symbols. Pure."""

from dataclasses import asdict
from typing import Any

from earlybird.schemas.sentiment import DecayedSentiment, Sentiment, SentimentItem, SentimentWindow
from earlybird.stream.views.windows import KEPT_US, SPANS_US, Board, Counted, decayed, since, summarised

LATEST = 10
"""Items in a message about one symbol."""

POINTS = 24
"""Parts of the series behind a sparkline."""


def sentiment(board: Board, symbol: str, as_of_us: int, half_life_us: int) -> Sentiment:
    """Return all windows of a symbol at an instant."""
    counted = board.counted(symbol, KEPT_US, as_of_us)
    latest = since(counted, as_of_us - max(SPANS_US.values()))[::-1][:LATEST]
    windows = ((name, summarised(since(counted, as_of_us - length_us))) for name, length_us in SPANS_US.items())
    return Sentiment(
        symbol=symbol,
        as_of_us=as_of_us,
        windows=tuple(SentimentWindow(window=name, **asdict(summary)) for name, summary in windows),
        decayed=DecayedSentiment(half_life_us=half_life_us, **asdict(decayed(counted, half_life_us, as_of_us))),
        items=tuple(map(item_of, latest)),
    )


def window_of(board: Board, symbol: str, window: str, as_of_us: int) -> SentimentWindow:
    """Return one window of a symbol; `window` is a name in SPANS_US."""
    return SentimentWindow(window=window, **asdict(board.summary(symbol, SPANS_US[window], as_of_us)))


def item_of(counted: Counted) -> SentimentItem:
    """Return an item as messages show it."""
    mention = counted.mention
    return SentimentItem(
        item_key=counted.item_key,
        source=mention.source,
        available_us=counted.since_us,
        label=mention.label,
        score=mention.score,
        confidence=mention.confidence,
        duplicate=mention.duplicate,
    )


def overview(board: Board, window: str, as_of_us: int) -> list[dict[str, Any]]:
    """Return one row per symbol with items in a window."""
    rows = []
    for symbol in board.symbols():
        told = window_of(board, symbol, window, as_of_us)
        if told.n:
            series = board.series(symbol, SPANS_US[window], POINTS, as_of_us)
            rows.append({"symbol": symbol, **told.model_dump(mode="json"), "series": series})
    return rows
