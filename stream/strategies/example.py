"""Follow the news: `python -m stream.strategies.example localhost:9092`."""

import sys

from stream.client import Latest, Received, Signals


# --8<-- strategy
def follow(signals: Signals) -> None:
    """Long what is praised, short what is blamed, flat again when a text is corrected away or withdrawn."""
    latest, positions = Latest[Received](), dict[str, int]()
    signals.on_silence(lambda silence: print(silence))
    for signal in signals:
        before = latest.get(signal.item_key)
        if not latest.update(signal):
            continue  # an old revision, or a duplicate
        for symbol in {*signal.tickers, *(before.tickers if before else ())}:
            opinion = sum(state.score or 0.0 for state in latest.about(symbol))
            target = (opinion > 0.5) - (opinion < -0.5)
            if target != positions.get(symbol, 0):
                positions[symbol] = target
                print(f"{signal.available_us} {symbol} {target:+d}  because of {signal.item_key} ({signal.action})")


# --8<-- strategy


if __name__ == "__main__":
    with Signals.live(sys.argv[1], min_confidence=0.6) as signals:
        follow(signals)
