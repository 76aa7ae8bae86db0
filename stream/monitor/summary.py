"""Totals of the tape: counts, rates and percentiles, as JSON or a closing picture."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from earlybird.stream.monitor.tape import Kind, Row, duration

_BAR_CELLS = 28


class TapeTally:
    """Counter of rows.

    `texts` counts raw records; a record may have two outcomes (a dead letter may also retract its item). Every text
    is in exactly one of: a computed result (`exit_layers`), a duplicate (`cache_hits`), a plain retraction, a dead
    letter.
    """

    def __init__(self) -> None:
        self.texts = 0
        self.cache_hits = 0
        self.corrections = 0
        self.retractions = 0
        self.exit_layers: Counter[int] = Counter()
        self.rejections: Counter[str] = Counter()
        self.max_layers = 1
        self._ages_us: list[int] = []

    def add(self, row: Row) -> None:
        """Count one outcome."""
        self.max_layers = max(self.max_layers, row.max_layers)
        self.corrections += row.kind is Kind.CORRECTION
        self.retractions += row.kind is Kind.RETRACTION
        if row.kind is Kind.REJECTION:
            self.rejections[row.reason] += 1
        elif row.label is not None:
            self._ages_us.append(row.age_us)
            if row.computed:
                self.exit_layers[row.exit_layer] += 1
            else:
                self.cache_hits += 1

    def age_ms(self, share: float) -> float:
        """Return the `share` quantile of the ages of signals with a result.

        By nearest rank, in milliseconds; 0 without any.
        """
        ages = sorted(self._ages_us)
        return ages[max(0, math.ceil(share * len(ages)) - 1)] / 1000 if ages else 0.0

    def as_json(self, seconds: float) -> dict[str, Any]:
        """Return all figures."""
        return {
            "texts": self.texts,
            "texts_per_s": round(self.texts / seconds, 1) if seconds > 0 else 0.0,
            "latency_ms": {"p50": round(self.age_ms(0.50), 2), "p99": round(self.age_ms(0.99), 2)},
            "exit_layers": {str(layer): self.exit_layers[layer] for layer in sorted(self.exit_layers)},
            "cache_hits": self.cache_hits,
            "corrections": self.corrections,
            "retractions": self.retractions,
            "rejections": dict(sorted(self.rejections.items())),
        }

    def status(self, seconds: float, *, slowed: bool = False) -> Text:
        """Return one line for the top, with the marks of the tape.

        Without the latencies of a `slowed` engine.
        """
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append("earlybird", "bold yellow")
        rate = self.texts / seconds if seconds > 0 else 0.0
        text.append(f"  {self.texts} texts  {rate:.0f}/s  ")
        if not slowed:
            p50, p99 = (duration(round(self.age_ms(share) * 1000)) for share in (0.5, 0.99))
            text.append(f"p50 {p50}  p99 {p99}  ", "cyan")
        text.append(f"≡ {self.cache_hits}  ✎ {self.corrections}  ✕ {self.retractions}  ", "magenta")
        text.append(f"! {self.rejections.total()}", "yellow")
        return text

    def picture(self, seconds: float, *, slowed: bool = False) -> Group:
        """Return the closing summary."""
        grid = Table.grid(padding=(0, 4))
        grid.add_row(Text("where texts left the model", "dim"), Text("what became of the rest", "dim"))
        grid.add_row(_stacked(self._depths()), _stacked(self._others()))
        return Group(self.status(seconds, slowed=slowed), Text(), grid)

    def _depths(self) -> list[Text]:
        most = max(self.exit_layers.values(), default=1)
        lines = []
        for layer in range(1, self.max_layers + 1):
            count = self.exit_layers[layer]
            line = Text(f"{layer:>2} ")
            line.append("█" * math.ceil(count / most * _BAR_CELLS), "yellow")
            lines.append(line.append(f" {count}"))
        return lines

    def _others(self) -> list[Text]:
        lines = [
            Text(f"{self.cache_hits:>4} duplicates  ≡"),
            Text(f"{self.corrections:>4} corrections  ✎"),
            Text(f"{self.retractions:>4} retractions  ✕"),
            Text(f"{self.rejections.total():>4} dead letters  !"),
        ]
        return lines + [
            Text(f"     {count:>3} {reason.replace('_', ' ')}", "dim")
            for reason, count in self.rejections.most_common()
        ]


def _stacked(lines: Sequence[Text]) -> Text:
    return Text("\n").join(lines)
