"""HTML page of an evaluation, with embedded plots."""

from collections.abc import Sequence
from html import escape

from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.paired import Paired
from earlybird.engine.evaluation.plots import accuracy_against_cost, exit_depths, reliability
from earlybird.engine.evaluation.sweep import Matched, Point
from earlybird.engine.exits.spec import parse
from earlybird.engine.exits.walk import walk

_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:80rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;width:100%}
td,th{padding:.25rem .4rem;border-bottom:1px solid #ddd;text-align:right}
td:first-child,th:first-child,td.t,th.t{text-align:left;white-space:nowrap}code{font-size:.85em}svg{max-width:100%;height:auto}"""
_NAMES = ("policy", "accuracy", "macro-F1", "ECE", "mean depth", "GFLOP", "saved", "lost", "won")


def report(
    title: str,
    outputs: Outputs,
    points: Sequence[Point],
    matched: Sequence[Matched],
    cheapest: Sequence[Matched],
    paired: Sequence[Paired],
) -> str:
    """Return the page; `points` hold full depth, fixed depths and the model's own policy."""
    layers, learned = outputs.config.layers, outputs.certainty is not None
    own = walk(parse(outputs.own[0], layers, learned_exits=learned), outputs.by_depth())
    depths_of = ("fixed", "trained", "full")
    fixed = [point for point in points if point.family in depths_of or point.policy in outputs.own]
    best = {match.point.policy: match.point for match in matched if match.point and match.target == 0.5}
    depths = [point for point in points if point.policy in outputs.own] + list(best.values())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>
<h1>{escape(title)}</h1>
<p>{len(outputs):,} texts, {layers} layers, the model's own policy <code>{escape(outputs.policy)}</code>. Model
<code>{outputs.model_sha256[:12]}</code>, texts <code>{outputs.texts_sha256[:12]}</code>. Lost: full depth right and the
exit wrong; won: the reverse. Policies are chosen and judged on the same texts here: to promise something of new texts
use <code>earlybird calibrate</code>.</p>
<h2>Accuracy against cost</h2>
{accuracy_against_cost(points, outputs.own)}
<h2>Fixed depths, and the model's own policy</h2>
{_table([(None, point) for point in fixed])}
<h2>The model's own policy against fixed depths, on the same texts</h2>
{_against(paired)}
<h2>The most accurate of each family at a cost</h2>
{_table([(f"saves {match.target:.0%}", match.point) for match in matched if match.point])}
<h2>The cheapest of each family at an accuracy</h2>
{_table([(f"loses {match.target:.0%}", match.point) for match in cheapest if match.point])}
<h2>Exit depths</h2>
{exit_depths(depths[:4])}
<h2>Confidence under the model's own policy</h2>
{reliability(outputs, outputs.reported(outputs.own[0], own))}
</html>
"""


def _table(rows: Sequence[tuple[str | None, Point]]) -> str:
    targets = any(target for target, _ in rows)
    head = ('<th class="t">target' if targets else "") + "".join(
        f"<th{' class=t' if name == 'policy' else ''}>{name}" for name in _NAMES
    )
    return f"<table><tr>{head}</tr>" + "".join(_row(target, point) for target, point in rows) + "</table>"


def _row(target: str | None, point: Point) -> str:
    shares = f"<td>{point.accuracy:.3f}<td>{point.macro_f1:.3f}<td>{point.calibration_error:.3f}"
    cost = f"<td>{point.mean_depth:.2f}<td>{point.gflops:.3f}<td>{point.saved:.0%}"
    names = [escape(target)] if target else []
    names.append(f"<code>{escape(point.policy)}</code>")
    first = "".join(f'<td class="t">{name}' for name in names)
    return f"<tr>{first}{shares}{cost}<td>{point.lost}<td>{point.won}</tr>"


def _against(paired: Sequence[Paired]) -> str:
    head = (
        '<tr><th class="t">policy<th class="t">against<th>accuracy<th>95 % interval<th>won<th>lost<th>cost of the other'
    )
    rows = "".join(
        f'<tr><td class="t"><code>{escape(pair.policy)}</code><td class="t"><code>{pair.against}</code>'
        f"<td>{100 * pair.difference:+.1f} points<td>{100 * pair.low:+.1f} to {100 * pair.high:+.1f}"
        f"<td>{pair.won}<td>{pair.lost}<td>{pair.cost:.2f}x</tr>"
        for pair in paired
    )
    return f"<table>{head}</tr>{rows}</table>"
