"""Engine without a model: texts exit at once or at a simulated device's rate."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from earlybird.engine.config import EngineConfig
from earlybird.engine.text.assembly import Text
from earlybird.engine.text.encoder import Encoded
from earlybird.engine.types import Request, Verdict
from earlybird.schemas.signal import ExitReason, Model
from earlybird.stream.errors import SettingsError
from earlybird.stream.stage.outcome import Origin

SLOTS = 256
LAYERS = 8
CONFIG = EngineConfig(slots=SLOTS)
NOW_US = 1_770_000_000_000_000
MODEL = Model(
    id="null",
    sha256="0" * 64,
    profile="natural-v1",
    policy="fixed:layer=1",
    config_hash="0" * 16,
    numerics="0" * 16,
    dtype="float32",
    device="null",
    code_version="bench",
)


def rate_of(engine: str) -> float | None:
    """Parse the rate of an engine specification.

    `null` -> None (no limit), `null:70000` -> 70,000 texts per second. Raises SettingsError.
    """
    name, colon, rate = engine.partition(":")
    try:
        if name != "null" or (colon and float(rate) <= 0):
            raise ValueError
        return float(rate) if colon else None
    except ValueError:
        raise SettingsError(f"engine: null or null:TEXTS_PER_SECOND required, was {engine!r}") from None


def origin(signals: str, dead_letters: str) -> Origin:
    """Return the provenance of the signals of such a run."""
    return Origin(MODEL, LAYERS, True, "bench", signals, dead_letters)


class NullEncoder:
    """Encoder that ignores the text and returns three ids, different for each text."""

    def __init__(self) -> None:
        self._texts = 0

    def encode(self, texts: Sequence[Text]) -> list[Encoded | None]:
        start, self._texts = self._texts, self._texts + len(texts)
        return [Encoded((2, number, 3), False, f"{number:064x}") for number in range(start, self._texts)]


class NullRunner:
    """Runner whose texts all exit in one step.

    The step takes as long as a device of `rate` texts per second would take.
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._requests: list[Request] = []
        self.behind: int | None = None  # see Runner.behind
        self._due_s = 0.0

    @property
    def waiting(self) -> int:
        return 0

    @property
    def active(self) -> int:
        return len(self._requests)

    def submit(self, requests: Sequence[Request]) -> None:
        self._requests += requests

    def expire(self, tickets: Iterable[int]) -> None:
        """See Runner.expire; has no effect, since all texts exit in one step anyway."""

    def step(self) -> list[Verdict]:
        requests, self._requests = self._requests, []
        if self._rate is not None and requests:
            now_s = time.perf_counter()
            # A busy device counts from the end of its last step, so that a late wake-up does not lower the rate.
            start_s = self._due_s if now_s - self._due_s < SLOTS / self._rate else now_s
            self._due_s = start_s + len(requests) / self._rate
            time.sleep(max(0.0, self._due_s - now_s))
        return [verdict(request.ticket) for request in requests]


def verdict(ticket: int) -> Verdict:
    """Return the verdict that every text gets."""
    return Verdict(ticket, 2, (0.05, 0.15, 0.8), (-1.4, -0.3, 1.4), 2, ExitReason.CONFIDENCE, 0.4)


@dataclass(frozen=True)
class NullEngine:
    """Interface of an Engine as the stage uses it; `encoder` may be a real one."""

    encoder: object
    rate: float | None = None
    languages: tuple[str, ...] = ("en",)
    config: EngineConfig = CONFIG
    slots: int = SLOTS
    in_flight: int = SLOTS
    device: str = "null"

    def runner(self) -> NullRunner:
        return NullRunner(self.rate)

    alone = runner
