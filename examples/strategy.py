"""Long positive, short negative mean sentiment: python examples/strategy.py localhost:9092"""

import sys
from contextlib import suppress

from earlybird import Latest, Received, Signals

latest, positions = Latest[Received](), dict[str, int]()


def act(signal: Received) -> None:
    before = latest.get(signal.item_key)
    if not latest.update(signal):
        return  # an old revision, or a duplicate
    for symbol in dict.fromkeys([*signal.tickers, *(before.tickers if before else ())]):
        scores = [state.score or 0.0 for state in latest.about(symbol)[-5:]]
        mood = sum(scores) / max(1, len(scores))
        target = (mood > 0.3) - (mood < -0.3)
        if target != positions.get(symbol, 0):
            positions[symbol] = target
            at = signal.available_at.isoformat(timespec="milliseconds")
            print(at, symbol, f"{target:+d}", signal.action.value, signal.item_key, flush=True)


if __name__ == "__main__":
    broker = sys.argv[1] if len(sys.argv) > 1 else "localhost:9092"
    with suppress(KeyboardInterrupt), Signals.live(broker, start="beginning", min_confidence=0.6) as signals:
        signals.on(act).on_health(print).run()
