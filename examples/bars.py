"""Scores on 30-minute bars of New York: python examples/bars.py [ARCHIVE]"""

import sys

from earlybird import Signals
from earlybird.stream.strategies.bars import to_bars

if len(sys.argv) > 1:
    signals = Signals.replay(sys.argv[1], latency="250ms", min_confidence=0.6)
else:
    from sample import recording

    signals = Signals.replay(recording(), latency="250ms", min_confidence=0.6)

bars = to_bars(signals, "XNYS", "30min")  # a signal is in the first bar that opens after it could be known
entries = bars.notna() & (bars > 0.8)
print(bars.shape[0], "bars,", bars.shape[1], "symbols,", int(entries.to_numpy().sum()), "entries at the open of:")
print("\n".join(f"{at:%Y-%m-%d %H:%M} {symbol}" for at, symbol in entries.stack().loc[lambda rows: rows].index[:5]))
