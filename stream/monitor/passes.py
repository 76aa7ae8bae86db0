"""Message of a worker: what its slots hold after a pass."""

import json
from dataclasses import asdict, dataclass

LONGEST_TEXT = 160  # characters that a display can use
MOST_TEXTS = 64  # per pass: no screen has more rows


@dataclass(frozen=True, slots=True)
class InSlot:
    """A text in a slot; `depth` counts its passes."""

    ticket: int
    depth: int
    text: str


@dataclass(frozen=True, slots=True)
class Exited:
    """A text that left its slot after this pass."""

    ticket: int
    layer: int
    label: str
    confidence: float
    text: str


Told = InSlot | Exited


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of one engine thread: its texts, and totals so far.

    Totals are of this thread, except `waiting`: the texts that wait for a slot of any thread.
    """

    thread: str
    slots: int  # of this thread
    layers: int
    waiting: int
    left: int  # texts that have exited
    passes: int
    computing_s: float  # CPU time, without the pauses that slow it down
    staying: tuple[InSlot, ...]
    exited: tuple[Exited, ...]

    @property
    def texts(self) -> tuple[Told, ...]:
        """All texts of this pass."""
        return (*self.staying, *self.exited)

    def to_bytes(self) -> bytes:
        """Return the message."""
        return json.dumps({"pass": asdict(self)}).encode()

    @classmethod
    def from_fields(cls, fields: dict[str, object]) -> "Pass":
        """Build it from the decoded message."""
        known = dict(fields)
        known["staying"] = tuple(InSlot(**each) for each in known["staying"])  # type: ignore[attr-defined]
        known["exited"] = tuple(Exited(**each) for each in known["exited"])  # type: ignore[attr-defined]
        return cls(**known)  # type: ignore[arg-type]
