"""Evaluation curves as SVG."""

import io
from collections.abc import Sequence

import torch
from torch import Tensor

from earlybird.engine.evaluation.compare import Comparison
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.sweep import Point, frontier

_COLOURS = ("#3366aa", "#cc7722", "#338855", "#aa3377", "#666666", "#22aabb", "#884422", "#bb4444")
BINS = 10


def accuracy_against_cost(points: Sequence[Point], own: Sequence[str]) -> str:
    """Plot accuracy over operations per text, with each family's best points joined.

    The model's own policy is marked.
    """
    figure, axes = _figure(7.5, 4.2)
    for colour, family in zip(_COLOURS, dict.fromkeys(point.family for point in points if point.family != "full")):  # noqa: B905
        mine = sorted((point for point in points if point.family == family), key=lambda point: point.gflops)
        axes.scatter([p.gflops for p in mine], [p.accuracy for p in mine], s=8, alpha=0.35, color=colour, linewidths=0)
        best = frontier(mine)
        axes.plot([p.gflops for p in best], [p.accuracy for p in best], color=colour, label=family, linewidth=1.6)
    for point in points:
        if point.family == "full" or point.policy in own:
            axes.scatter([point.gflops], [point.accuracy], s=60, marker="*", color="black", zorder=5)
            axes.annotate(point.policy, (point.gflops, point.accuracy), xytext=(6, -12), textcoords="offset points")
    axes.set_xlabel("GFLOP per text")
    axes.set_ylabel("accuracy")
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return _svg(figure)


def accuracy_of_models(comparisons: Sequence[Comparison]) -> str:
    """Plot accuracy over operations per text, one panel per file and one line per model.

    Dashed: fixed depths of the reference model. Stars: baselines.
    """
    figure, axes = _figure(5.2 * len(comparisons), 4.2, len(comparisons))
    for panel, each in zip(axes if len(comparisons) > 1 else [axes], comparisons, strict=True):
        for number, row in enumerate(each.rows):
            colour = _COLOURS[number % len(_COLOURS)]
            costs, accuracies = [p.gflops for p in row.curve], [p.accuracy for p in row.curve]
            panel.plot(costs, accuracies, color=colour, label=row.name, linewidth=1.4, marker="o", markersize=2)
            if row.name == each.reference:
                costs, accuracies = [p.gflops for p in row.depths], [p.accuracy for p in row.depths]
                panel.plot(costs, accuracies, color=colour, label=f"{row.name}, fixed depths", linestyle="--")
        costs, accuracies = [cell.gflops for _, cell in each.baselines], [cell.accuracy for _, cell in each.baselines]
        if costs:
            panel.scatter(costs, accuracies, s=60, marker="*", color="black", label="trained at that depth", zorder=5)
        panel.set_title(f"{each.texts}, {each.count:,} texts", fontsize=9)
        panel.set_xlabel("GFLOP per text")
        panel.set_ylabel("accuracy")
    panel.legend(frameon=False, fontsize=7, loc="lower right")
    return _svg(figure)


def exit_depths(points: Sequence[Point]) -> str:
    """Plot the share of texts by exit depth, one panel per policy."""
    figure, axes = _figure(7.5, 2.4, max(2, len(points)))
    for panel, point in zip(axes, points, strict=False):
        total = sum(point.exits)
        panel.bar(range(1, len(point.exits) + 1), [count / total for count in point.exits], color=_COLOURS[0])
        panel.set_title(point.policy, fontsize=8)
        panel.set_xlabel("exit after pass")
    axes[0].set_ylabel("share of texts")
    return _svg(figure)


def reliability(outputs: Outputs, probs: Tensor) -> str:
    """Plot accuracy by confidence; probs (n, C) at the exits."""
    confidence, found = probs.max(dim=-1)
    right = (found == outputs.label).double()
    place = (confidence * BINS).long().clamp(0, BINS - 1)
    counts = torch.bincount(place, minlength=BINS)
    hits = torch.zeros(BINS, dtype=torch.float64).index_add_(0, place, right)
    used = [number for number in range(BINS) if counts[number]]
    figure, axes = _figure(4.2, 3.6)
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle="--")
    shares = [float(hits[number] / counts[number]) for number in used]
    axes.bar([(number + 0.5) / BINS for number in used], shares, width=0.9 / BINS, color=_COLOURS[0], alpha=0.8)
    for number, share in zip(used, shares, strict=True):
        axes.annotate(str(int(counts[number])), ((number + 0.5) / BINS, share), ha="center", va="bottom", fontsize=7)
    axes.set_xlabel("confidence")
    axes.set_ylabel("share right")
    return _svg(figure)


def losses(epochs: Sequence[dict[str, object]]) -> str:
    """Plot a training by epoch: losses, and macro-F1 of the first and the last exit."""
    figure, axes = _figure(7.5, 2.6, 2)
    numbers = range(1, len(epochs) + 1)
    axes[0].plot(
        numbers, [epoch["loss"] for epoch in epochs], color="#999999", label="training", marker="o", markersize=3
    )
    for panel, value in zip(axes, ("loss", "macro_f1"), strict=True):
        by_exit = [[score[value] for score in epoch["dev"]] for epoch in epochs]  # type: ignore[attr-defined]
        for colour, place, name in ((_COLOURS[0], -1, "last exit"), (_COLOURS[1], 0, "first exit")):
            panel.plot(numbers, [row[place] for row in by_exit], color=colour, label=name, marker="o", markersize=3)
    axes[0].set_xlabel("epoch")
    axes[0].set_ylabel("loss, of exits on dev")
    axes[0].legend(frameon=False, fontsize=8)
    axes[1].set_xlabel("epoch")
    axes[1].set_ylabel("dev macro-F1")
    axes[1].legend(frameon=False, fontsize=8)
    return _svg(figure)


def _figure(width: float, height: float, panels: int = 1):  # type: ignore[no-untyped-def]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, panels)
    for panel in axes if panels > 1 else [axes]:
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure, axes


def _svg(figure) -> str:  # type: ignore[no-untyped-def]
    """Render a figure as reproducible SVG, without date or random ids."""
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.hashsalt": "earlybird", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]
