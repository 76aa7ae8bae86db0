"""Tables 1, 2, 5 and 6 of PF-BERxiT: training strategies, parameters, exit rules, batch sizes."""

import math
from collections.abc import Sequence

from earlybird.engine.evaluation.compare import by_run
from earlybird.engine.evaluation.outputs import Outputs
from earlybird.engine.evaluation.paper import (
    EMPTY,
    Cell,
    Measure,
    Models,
    PaperTable,
    cross_layer,
    lacking,
    module_of,
    scores,
    share,
)
from earlybird.engine.evaluation.sweep import Point
from earlybird.engine.training.strategies import phases
from earlybird.engine.weights import shapes

PAPER = "PF-BERxiT"
BANDS = ((0.70, 0.82), (0.45, 0.55), (0.20, 0.30))
"""Shares saved that count as about 75, 50 and 25 %; the paper's own rows lie within 72 to 82, 46 to 54, 22 to 28."""
BATCHES = (1, 2, 4, 8, 16)

STRATEGIES: tuple[tuple[str, str, str | None], ...] = (
    ("JOINT", "joint", None),
    ("ALT", "alternating", None),
    ("2ST", "two_stage", None),
    ("BERxiT", "berxit", None),
    ("PF (orig)", "pf_berxit", "identity"),
    ("PF (conv)", "pf_berxit", "convolution"),
    ("PF (attn)", "pf_berxit", "attention"),
    ("PF (mlp)", "pf_berxit", "mlp"),
)
"""Rows of Table 1: name, strategy, module of the adapters."""

METHODS: tuple[tuple[str, str, str], ...] = (
    ("ALBERT", "joint", "classifiers=shared"),
    ("PABEE", "joint", "classifiers=per_layer"),
    ("Branchy Net", "joint", "classifiers=per_layer"),
    ("BERxiT", "berxit", ""),
    *((f"PF-BERxiT {name[3:]}", strategy, f"module={module}") for name, strategy, module in STRATEGIES[4:]),
)
"""Rows of Table 2: name, strategy, what the model needs besides."""

BACKBONE = ("joint", "elbert")

RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Branchy Net", "entropy", BACKBONE),
    ("Shallow-deep", "maxprob", BACKBONE),
    ("BERxiT", "learned", ("berxit",)),
    ("PABEE", "patience", BACKBONE),
    ("ELBERT-{layers}L", "cwb", ("elbert", "joint")),
    ("PF-BERxiT", "similarity", ("pf_berxit",)),
)
"""Rows of Table 5: name, policy family, strategies of the models that stand for it, the best first."""


def tables(models: Models, measure: Measure) -> list[PaperTable]:
    """Compute the four tables; the batch sizes of Table 6 come from `measure`."""
    return [_one(models), _two(models), _five(models), _six(models, measure)]


def _one(models: Models) -> PaperTable:
    rows: list[tuple[Cell, ...]] = []
    missing = []
    for name, strategy, module in STRATEGIES:
        cells = [scores([cross_layer(o) for o in models.of(texts, strategy, module)]) for texts in models.texts]
        if all(cell == EMPTY for cell in cells):
            missing.append(strategy if module is None else f"{strategy} (module={module})")
        rows.append((Cell(name), *cells))
    published = {strategy for _, strategy, _ in STRATEGIES}
    for run, seeds in by_run(models.by_texts[models.texts[0]]).items():
        if seeds[0].strategy in published:
            continue
        found = [by_run(models.by_texts[texts]).get(run, []) for texts in models.texts]
        rows.append((Cell(f"{run} (not in the paper)"), *(scores([*map(cross_layer, each)]) for each in found)))
    notes = ("Mean accuracy of all exits; of several seeds the median.", *lacking(missing))
    columns = ("", *(f"{texts} avg-acc" for texts in models.texts))
    title = "Cross-layer average scores of training strategies"
    return PaperTable(PAPER, "Table 1", title, columns, tuple(rows), notes)


def parameters(outputs: Outputs) -> tuple[int, int | None, int]:
    """Count a model's parameters: all, trained, of adapters.

    Trained are those that its strategy moves; None where it is not known.
    """
    counts = {name: math.prod(shape) for name, shape in shapes(outputs.config).items()}
    adapters = sum(count for name, count in counts.items() if name.startswith("adapter."))
    if outputs.strategy is None:
        return sum(counts.values()), None, adapters
    plan = phases(outputs.strategy, outputs.config)
    moved = sum(count for name, count in counts.items() if any(phase.moves(name) for phase in plan))
    return sum(counts.values()), moved, adapters


def _two(models: Models) -> PaperTable:
    rows: list[tuple[Cell, ...]] = []
    missing = []
    for name, strategy, options in METHODS:
        found = [[o for o in models.of(texts, strategy) if _has(o, options)] for texts in models.texts]
        some = next((seeds[0] for seeds in found if seeds), None)
        if some is None:
            missing.append(f"{strategy} ({options})" if options else strategy)
        accuracies = [scores([cross_layer(o) for o in seeds]) for seeds in found]
        rows.append((Cell(name), *_counts(some), *accuracies))
    notes = (
        "The paper counts as fine-tuned of PF-BERxiT the adapters alone; its classifiers and learned exits move, too.",
        "ALBERT is here the jointly trained model with one classifier, which the paper's count leaves out.",
        *lacking(missing),
    )
    accuracies_of = (f"{texts} cross-layer accuracy" for texts in models.texts)
    columns = ("Method", "All parameters", "Fine-tuned parameters", *accuracies_of)
    return PaperTable(PAPER, "Table 2", "Fine-tuned parameters and accuracy", columns, tuple(rows), notes)


def _has(outputs: Outputs, options: str) -> bool:
    """Return whether a model was trained with the classifiers or adapters that a method needs."""
    key, _, value = options.partition("=")
    return not key or value == (module_of(outputs) if key == "module" else outputs.config.classifiers)


def _counts(outputs: Outputs | None) -> tuple[Cell, Cell]:
    if outputs is None:
        return EMPTY, EMPTY
    count, moved, adapters = parameters(outputs)
    if moved is None:
        return Cell(f"{count:,}", count), EMPTY
    return Cell(f"{count:,}", count), Cell(f"{moved:,}" + (f" (adapters {adapters:,})" if adapters else ""), moved)


def _five(models: Models) -> PaperTable:
    backbone = {texts: models.first_of(texts, BACKBONE) for texts in models.texts}
    layers = min(outputs.config.layers for seeds in backbone.values() for outputs in seeds)
    depths = dict.fromkeys(max(1, round(part * layers)) for part in (0.25, 0.5, 0.75))
    fixed = {f"Exit-{depth}L": "full" if depth == layers else f"fixed:{depth}" for depth in depths}
    rows = [_policy(name, models, backbone, policy) for name, policy in {"Backbone": "full", **fixed}.items()]
    notes = [f"Backbone and fixed exits: {_names(backbone)}."]
    for name, family, strategies in RULES:
        used = {texts: models.first_of(texts, strategies) for texts in models.texts}
        title = name.format(layers=layers)
        notes.append(f"{title}: {family} rule on {_names(used)}.")
        if all(seeds[0].strategy not in strategies for seeds in used.values()):
            notes[-1] += f" No model of strategy {' or '.join(strategies)} was given."
        for number, band in enumerate(BANDS):
            found = [_at(models, used[texts], family, band) for texts in models.texts]
            rows.append(_line("" if number else title, found))
        if family == "similarity":
            rows.append(_policy("", models, used, "full"))
    bands = ", ".join(f"{low:.0%} to {high:.0%}" for low, high in BANDS)
    notes.append(
        f"Speed: share saved of the model's own operations. A row has the rule's most accurate setting within one of "
        f"{bands}; it is empty where there is none."
    )
    notes.append(_chosen(models))
    title = "Scores and speedup of early exiting methods"
    return PaperTable(PAPER, "Table 5", title, _columns("", models), tuple(rows), tuple(notes))


def _six(models: Models, measure: Measure) -> PaperTable:
    backbone = {texts: models.first_of(texts, BACKBONE) for texts in models.texts}
    used = {texts: models.first_of(texts, ("pf_berxit",))[:1] for texts in models.texts}
    rows = [_policy("Base", models, backbone, "full")]
    measured = False
    for batch in BATCHES:
        for number, band in enumerate(BANDS):
            cells: list[Cell] = []
            for texts in models.texts:
                found = _at(models, used[texts], "similarity", band)
                run = measure(used[texts][0], found[0].policy, batch) if found else None
                measured = measured or run is not None
                cells += [EMPTY, EMPTY] if run is None else [scores([run.accuracy]), share([run.saved])]
            rows.append((Cell("" if number else str(batch), batch), *cells))
    notes = [f"Similarity rule on {_names(used)}; settings as in Table 5, of the first seed.", _chosen(models)]
    if measured:
        notes.append(
            "Each row is a pass over all texts in that many packed slots. A text's result does not depend on the "
            "others in the slots, so scores do not fall with the batch size as the paper's do."
        )
    else:
        notes.append("Passes need models and texts, not stored outputs: earlybird evaluate FILE --model ... --paper")
    title = "Scores and speedup of different batch sizes"
    return PaperTable(PAPER, "Table 6", title, _columns("Batch size", models), tuple(rows), tuple(notes))


def _columns(first: str, models: Models) -> tuple[str, ...]:
    return (first, *(name for texts in models.texts for name in (f"{texts} score", "speed")))


def _policy(name: str, models: Models, used: dict[str, list[Outputs]], policy: str) -> tuple[Cell, ...]:
    """Return the row of one policy for every file of texts."""
    return _line(name, [[models.named(outputs, policy) for outputs in used[texts]] for texts in models.texts])


def _at(models: Models, seeds: Sequence[Outputs], family: str, band: tuple[float, float]) -> list[Point]:
    """Return each seed's most accurate setting within a band; empty where a seed has none."""

    def allowed(point: Point) -> bool:
        return point.family == family and band[0] <= point.saved <= band[1]

    found = [models.best(o, allowed, lambda point: (point.accuracy, point.saved)) for o in seeds]
    points = [point for point in found if point is not None]
    return points if len(points) == len(seeds) else []


def _line(name: str, found: Sequence[Sequence[Point]]) -> tuple[Cell, ...]:
    """Return a row of score and speed per file of texts."""
    cells: list[Cell] = []
    for points in found:
        cells += [scores([point.accuracy for point in points]), share([point.saved for point in points])]
    return (Cell(name), *cells)


def _names(used: dict[str, list[Outputs]]) -> str:
    runs = dict.fromkeys(run for seeds in used.values() for run in by_run(seeds))
    return ", ".join(runs)


def _chosen(models: Models) -> str:
    if models.choose:
        return "Settings were chosen on other texts than those judged."
    return "Settings were chosen on the texts that are judged, as in the paper; --choose FILE takes others."
