"""Outcome counts of a feed's lines, and the lines at which to resume."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from earlybird.stream.observability.quantity import quantity


@dataclass(slots=True)
class Tally:
    """Counts of lines, and the places of lines in flight."""

    sent: Counter[str] = field(default_factory=Counter)  # handed to the client, by topic
    refused: Counter[str] = field(default_factory=Counter)  # of these, not taken by the broker
    bad_lines: int = 0
    skipped_lines: int = 0
    seconds: float = 0.0
    open: dict[int, tuple[str, str, int]] = field(default_factory=dict)  # in flight: receipt -> topic, place, line
    reached: dict[str, int] = field(default_factory=dict)  # line of each file that follows what was sent

    @property
    def texts(self) -> int:
        """Number of records handed to the client."""
        return self.sent.total()

    @property
    def acknowledged(self) -> int:
        """Number of records that the broker has acknowledged."""
        return self.texts - len(self.open) - self.refused.total()

    @property
    def published(self) -> Counter[str]:
        """Number of acknowledged records by topic."""
        return self.sent - self.refused - Counter(topic for topic, *_ in self.open.values())

    def send(self, topic: str, place: str, lines: tuple[int, int] | None = None) -> None:
        """Count one record; its receipt is the number of records before it.

        `lines`: at which to go on before it is acknowledged, and once it is; None: its own and the next.
        """
        name, number = _parts(place)
        before, after = lines or (number, number + 1)
        self.open[self.texts], self.reached[name] = (topic, place, before), after
        self.sent[topic] += 1

    def settle(self, receipts: Iterable[object]) -> int:
        """Remove acknowledged records and return how many there were."""
        count = len(self.open)
        for receipt in receipts:
            self.open.pop(cast(int, receipt), None)
        return count - len(self.open)

    def refuse(self, receipt: object) -> str | None:
        """Remove a record that the broker did not take, and return its place if known."""
        topic, place, _ = self.open.pop(cast(int, receipt), (None, None, 0))
        if topic is not None:
            self.refused[topic] += 1
        return place

    def resume(self, unread: Iterable[str]) -> list[str]:
        """Return the lines at which to resume without losing any.

        One per file in `unread` (names of files not read to their end) and per file with unacknowledged lines.
        """
        lines = {name: self.reached.get(name, 1) for name in unread}
        lines |= {_parts(place)[0]: line for _, place, line in reversed(self.open.values())}
        return [f"{name}:{number}" for name, number in lines.items()]

    def __str__(self) -> str:
        """Return all counts in one line: published, in flight, bad, skipped."""
        published = self.published
        topics = ", ".join(f"{topic} {count:,}" for topic, count in sorted(published.items())) or "nothing"
        rate = self.texts / self.seconds if self.seconds > 0 else 0.0
        under_way = f"; {len(self.open):,} more sent and not acknowledged" if self.open else ""
        bad = f"; {quantity(self.bad_lines, 'bad line')} left out" if self.bad_lines else ""
        skipped = f"; {quantity(self.skipped_lines, 'line')} without an item skipped" if self.skipped_lines else ""
        done = f"published {quantity(self.acknowledged, 'text')} ({topics})"
        return f"{done} in {self.seconds:.1f} s, {rate:,.{0 if rate >= 10 else 1}f} texts/s{under_way}{bad}{skipped}"


def _parts(place: str) -> tuple[str, int]:
    name, _, number = place.rpartition(":")
    return name, int(number)
