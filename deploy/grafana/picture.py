"""Draw the dashboard's panels from a Prometheus, without a Grafana.

    python deploy/grafana/picture.py http://127.0.0.1:9090 dashboard.svg --minutes 10

The queries are those of earlybird.json, so that a panel that stays empty here stays empty in Grafana, too. Needs the
extra `evaluate`.
"""

import argparse
import json
import re
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).with_name("earlybird.json")
PANELS = (
    "Signals by label", "Mean exit layer", "From ingestion to signal", "By stage, p95", "Records not yet read",
    "Texts in flight", "Utilisation", "Dead letters by reason", "Lookups by result", "Memory",
)  # fmt: skip
POINTS = 120
INKS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#cf222e", "#57606a", "#9a6700", "#bf3989")


def main() -> None:
    """Ask for the last minutes and write the picture."""
    parser = argparse.ArgumentParser(description="Draw the dashboard's panels from a Prometheus.")
    parser.add_argument("url", help="of the Prometheus")
    parser.add_argument("picture", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0)
    args = parser.parse_args()
    draw(args.url, args.picture, args.minutes * 60)


def draw(url: str, picture: Path, span_s: float) -> None:
    """Write the panels of the last `span_s` seconds to an SVG or PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    panels = {panel["title"]: panel for panel in json.loads(DASHBOARD.read_text())["panels"]}
    end_s = time.time()
    figure, places = plt.subplots(len(PANELS) // 2, 2, figsize=(12, 2.3 * len(PANELS) / 2), layout="constrained")
    for place, title in zip(places.flat, PANELS, strict=True):
        panel = panels[title]
        unit = panel["fieldConfig"]["defaults"].get("unit", "")
        lines = [line for target in panel["targets"] for line in series(url, target, end_s - span_s, end_s)]
        for ink, (name, times_s, values) in zip(INKS * len(lines), lines, strict=False):
            place.plot(
                [(at - end_s) / 60 for at in times_s],
                [_shown(unit, value) for value in values],
                ink,
                lw=1.2,
                label=name,
            )
        place.set_title(
            title + {"s": ", ms", "bytes": ", MB", "percentunit": ", %"}.get(unit, ""), loc="left", fontsize=9
        )
        place.tick_params(labelsize=7)
        place.grid(alpha=0.25)
        place.set_ylim(bottom=0)
        place.spines[["top", "right"]].set_visible(False)
        if lines:
            place.legend(fontsize=6, frameon=False, ncols=2, loc="upper left")
        else:
            place.text(0.5, 0.5, "no data", transform=place.transAxes, ha="center", color="#57606a")
    for place in places[-1]:
        place.set_xlabel("minutes", fontsize=8)
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def series(
    url: str, target: dict[str, Any], start_s: float, end_s: float
) -> list[tuple[str, list[float], list[float]]]:
    """Return name, times and values of each series of one of a panel's queries."""
    step_s = max(1, round((end_s - start_s) / POINTS))
    query = re.sub(r"\$(job|instance)", ".*", target["expr"]).replace("$__rate_interval", f"{max(4 * step_s, 15)}s")
    words = urllib.parse.urlencode({"query": query, "start": start_s, "end": end_s, "step": step_s})
    with urllib.request.urlopen(f"{url}/api/v1/query_range?{words}", timeout=30) as answer:
        found = json.load(answer)["data"]["result"]
    return [(_name(target["legendFormat"], one["metric"]), *_points(one["values"])) for one in found]


def _points(values: list[Any]) -> tuple[list[float], list[float]]:
    return [float(at) for at, _ in values], [float(value) for _, value in values]


def _name(form: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form)


def _shown(unit: str, value: float) -> float:
    return value * {"s": 1_000.0, "percentunit": 100.0, "bytes": 1e-6}.get(unit, 1.0)


if __name__ == "__main__":
    main()
