"""Do prices follow the scores? A table and a picture: python examples/event_study.py [ARCHIVE PRICES]"""

import argparse
from pathlib import Path

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from earlybird import Signals
from earlybird.stream.strategies.event_study import Study, read_prices, study


def draw(result: Study, path: Path) -> None:
    """Mean abnormal return per decile of the score, with two standard errors either way."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    deciles = [decile.decile for decile in result.deciles]
    for name, offset in (("session", -0.15), ("next_day", 0.15)):
        means = [getattr(decile, f"{name}_bp") for decile in result.deciles]
        errors = [2 * getattr(decile, f"{name}_error_bp") for decile in result.deciles]
        places = [decile + offset for decile in deciles]
        axes.errorbar(places, means, errors, fmt="o", capsize=3, label=name.replace("_", " "))
    axes.axhline(0, color="grey", linewidth=1)
    axes.set(xlabel="decile of the score", ylabel="abnormal return, basis points", xticks=deciles)
    axes.set_title(f"{result.signals:,} signals on {result.days} days" + (", in sample" if result.in_sample else ""))
    axes.legend()
    FigureCanvasSVG(figure).print_svg(path)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("archive", nargs="?", help="what `earlybird archive` or `earlybird replay` wrote")
parser.add_argument("prices", nargs="?", type=Path, help="CSV with symbol, date, open, close, adj_close")
parser.add_argument("--picture", type=Path, default=Path("study.svg"))
args = parser.parse_args()

if args.archive:
    signals, prices = Signals.replay(args.archive), read_prices(args.prices)
else:
    import sample

    signals, prices = Signals.replay(sample.recording()), sample.prices()

result = study(signals, prices, lag_us=500_000)
for decile in result.deciles:
    print(f"decile {decile.decile:>2}: score {decile.score:+.2f}, session {decile.session_bp:+6.1f} bp")
print(f"10 - 1: {result.spread_session_bp:+.1f} bp, placebo p {result.spread_session_placebo:.3f}")
draw(result, args.picture)
print("picture:", args.picture)
