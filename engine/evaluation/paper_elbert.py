"""Tables III and IV of ELBERT FSA: rates at a tolerable loss of accuracy."""

from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.paper import EMPTY, Cell, Measure, Models, PaperTable, lacking
from earlybird.engine.evaluation.speed import Run
from earlybird.engine.evaluation.sweep import Point

PAPER = "ELBERT FSA system"
TOLERABLE = 0.02
"""Accuracy given up: the paper's two lines lie 0.019 and 0.013 below full depth."""
SLOTS = 32
"""Number N of slots: the largest batch of the paper."""


def tables(models: Models, measure: Measure) -> list[PaperTable]:
    """Compute both tables; rates come from `measure`."""
    three: list[tuple[Cell, ...]] = []
    four: list[tuple[Cell, ...]] = []
    used: dict[str, str] = {}
    rates = False
    for texts in models.texts:
        elbert = models.first_of(texts, ("elbert",))[0]
        fastbert = next(iter(models.of(texts, "fastbert")), None)
        line = models.named(models.where(elbert), "full").accuracy - TOLERABLE
        ours = _cheapest(models, elbert, "cwb", line)
        theirs = None if fastbert is None else _cheapest(models, fastbert, "entropy", line)
        runs = {slots: _run(measure, elbert, ours, slots) for slots in (1, SLOTS)}
        others = {slots: _run(measure, fastbert, theirs, slots) for slots in (1, SLOTS)}
        whole = measure(elbert, "full", 1)
        rates = rates or whole is not None
        used[texts] = f"{elbert.model}, {ours.policy if ours else 'no cwb policy that good'}"
        if fastbert is not None:
            used[texts] += f"; {fastbert.model}, {theirs.policy if theirs else 'no entropy policy that good'}"
        three += _three(texts, ours, runs, others)
        four += _four(texts, models.named(elbert, "full"), ours, whole, runs)
    notes = tuple(f"{texts}: {names}." for texts, names in used.items())
    notes += (f"Accuracy: the cheapest setting at most {TOLERABLE} below ELBERT's full depth.",)
    if rates:
        notes += (
            f"N = {SLOTS} slots. Texts per second of CPU time on one thread, without tokenising; the paper used a GPU.",
        )
    else:
        notes += ("Rates need models and texts instead of stored outputs: earlybird evaluate FILE --model ... --paper",)
    more = () if all(models.of(texts, "fastbert") for texts in models.texts) else lacking(["fastbert"])
    more += (
        "FastBERT is its training and its entropy rule on the shared layer, in the same slots as ELBERT: the ratio at "
        "N shows no schedule of FastBERT's own.",
    )
    return [
        PaperTable(
            PAPER,
            "Table III",
            "Speed comparison between ELBERT and FastBERT with tolerable accuracy loss",
            ("Datasets", "Accuracy", "Batch size", "FastBERT (text/s)", "ELBERT (text/s)", "Ratio"),
            tuple(three),
            notes + more,
        ),
        PaperTable(
            PAPER,
            "Table IV",
            "The speedup achieved by the ELBERT-based acceleration method",
            ("", "no exit, batch size 1", "early exit, batch size 1", "early exit, batch size N"),
            tuple(four),
            (*notes, "Speed-up in operations is added: it depends on no machine."),
        ),
    ]


def _cheapest(models: Models, outputs: Outputs, family: str, line: float) -> Point | None:
    """Return the cheapest setting of a family whose accuracy reaches the line."""

    def allowed(point: Point) -> bool:
        return point.family == family and point.accuracy >= line - 1e-9

    return models.best(outputs, allowed, lambda point: (point.saved, point.accuracy))


def _run(measure: Measure, outputs: Outputs | None, point: Point | None, slots: int) -> Run | None:
    return None if outputs is None or point is None else measure(outputs, point.policy, slots)


def _three(
    texts: str, ours: Point | None, runs: dict[int, Run | None], others: dict[int, Run | None]
) -> list[tuple[Cell, ...]]:
    rows: list[tuple[Cell, ...]] = []
    for slots, name in ((1, "1"), (SLOTS, "N")):
        run, other = runs[slots], others[slots]
        ratio = EMPTY
        if run is not None and other is not None:
            ratio = Cell(f"{run.texts_per_s / other.texts_per_s:.2f}x", run.texts_per_s / other.texts_per_s)
        first = (Cell(texts), _accuracy(ours)) if slots == 1 else (Cell(""), Cell(""))
        rows.append((*first, Cell(name, slots), _rate(other), _rate(run), ratio))
    return rows


def _four(
    texts: str, full: Point, ours: Point | None, whole: Run | None, runs: dict[int, Run | None]
) -> list[tuple[Cell, ...]]:
    alone, many = runs[1], runs[SLOTS]
    speedups = [EMPTY, EMPTY, EMPTY]
    if whole is not None:
        speedups[0] = Cell("1x", 1.0)
        if alone is not None and many is not None:
            by_exits, by_both = alone.texts_per_s / whole.texts_per_s, many.texts_per_s / whole.texts_per_s
            speedups[1] = Cell(f"{by_exits:.2f}x", by_exits)
            speedups[2] = Cell(f"{by_both:.1f}x ({by_exits:.2f}x x {by_both / by_exits:.1f})", by_both)
    operations = EMPTY if ours is None else Cell(f"{1 / (1 - ours.saved):.2f}x", 1 / (1 - ours.saved))
    return [
        (Cell(f"{texts} dataset"), Cell(""), Cell(""), Cell("")),
        (Cell("Accuracy"), _accuracy(full), _accuracy(ours), _accuracy(ours)),
        (Cell("Speed (text/s)"), _rate(whole), _rate(alone), _rate(many)),
        (Cell("Speed-up"), *speedups),
        (Cell("Speed-up in operations"), Cell("1x", 1.0), operations, operations),
    ]


def _accuracy(point: Point | None) -> Cell:
    return EMPTY if point is None else Cell(f"{point.accuracy:.3f}", point.accuracy)


def _rate(run: Run | None) -> Cell:
    return EMPTY if run is None else Cell(f"{run.texts_per_s:,.0f}", run.texts_per_s)
