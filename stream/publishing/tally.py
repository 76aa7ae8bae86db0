"""What became of a feed's lines, and where to go on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast


@dataclass(slots=True)
class Tally:
    """Counts of lines, and the places of those that the broker has not acknowledged."""

    sent: Counter[str] = field(default_factory=Counter)  # by topic
    bad_lines: int = 0
    seconds: float = 0.0
    open: dict[int, tuple[str, str]] = field(default_factory=dict)  # topic and place, in the order of sending
    reached: dict[str, int] = field(default_factory=dict)  # the last line of each file that was sent

    @property
    def texts(self) -> int:
        """Records handed to the broker."""
        return self.sent.total()

    @property
    def acknowledged(self) -> int:
        """Records that the broker has for certain."""
        return self.texts - len(self.open)

    @property
    def published(self) -> Counter[str]:
        """The same by topic."""
        return self.sent - Counter(topic for topic, _ in self.open.values())

    def send(self, topic: str, place: str) -> None:
        """One more; its receipt is the number of texts before it."""
        name, number = _parts(place)
        self.open[self.texts], self.reached[name] = (topic, place), number
        self.sent[topic] += 1

    def settle(self, receipts: Iterable[object]) -> int:
        """These have been acknowledged; how many."""
        count = len(self.open)
        for receipt in receipts:
            self.open.pop(cast(int, receipt), None)
        return count - len(self.open)

    def resume(self, unread: Iterable[str]) -> list[str]:
        """The places at which to go on, so that nothing is missing: of the files that were not read to their end
        (`unread`, their names), and of those with lines that are not acknowledged."""
        lines = {name: self.reached.get(name, 0) + 1 for name in unread}
        lines |= dict(_parts(place) for _, place in reversed(self.open.values()))
        return [f"{name}:{number}" for name, number in lines.items()]

    def __str__(self) -> str:
        """All of it in one line: published, under way, bad."""
        published = self.published
        topics = ", ".join(f"{topic} {count:,}" for topic, count in sorted(published.items())) or "nothing"
        rate = self.texts / self.seconds if self.seconds > 0 else 0.0
        under_way = f"; {len(self.open):,} more sent and not acknowledged" if self.open else ""
        bad = f"; {self.bad_lines:,} bad lines left out" if self.bad_lines else ""
        done = f"published {self.acknowledged:,} texts ({topics})"
        return f"{done} in {self.seconds:.1f} s, {rate:,.0f} texts/s{under_way}{bad}"


def _parts(place: str) -> tuple[str, int]:
    name, _, number = place.rpartition(":")
    return name, int(number)
