"""Engine without a model that a driver can upset: texts leave out of order, at the pace of a simulated device.

What a text gets depends on the text alone, in every process, so that an outcome that comes twice can be compared. Texts
with one of the words below upset the process that has them; the signals are for the process as a whole (see worker.py).
"""

import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from earlybird.engine.config import EngineConfig
from earlybird.engine.text.assembly import Text
from earlybird.engine.text.encoder import Encoded
from earlybird.engine.types import Request, Verdict
from earlybird.schemas.signal import ExitReason

LAYERS, SLOTS = 8, 16
DEADLY = "segfault"  # the process that encodes it is killed
RAISING = "overflow"  # every step that computes it raises
_WELL, _RAISES = 2, 3  # first token id
_PROBS = ((0.8, 0.15, 0.05), (0.1, 0.8, 0.1), (0.05, 0.15, 0.8))


class Encoder:
    """Three ids that depend on the text alone."""

    max_tokens = 8

    def encode(self, texts: Sequence[Text]) -> list[Encoded | None]:
        return [self._encoded(" ".join(text.parts)) for text in texts]

    def _encoded(self, text: str) -> Encoded:
        if DEADLY in text:
            os.kill(os.getpid(), signal.SIGKILL)
        content = hashlib.sha256(text.encode())
        first, second = (int.from_bytes(content.digest()[start : start + 3]) for start in (0, 3))
        return Encoded((_RAISES if RAISING in text else _WELL, first, second), False, content.hexdigest())


@dataclass
class Mood:
    """What is wrong with all runners of this process, as signals have said."""

    hang: threading.Event = field(default_factory=threading.Event)
    fail: threading.Event = field(default_factory=threading.Event)


class Runner:
    """Slots of which each text needs one for 1 to LAYERS steps; a step takes `step_s`."""

    def __init__(self, step_s: float, mood: Mood) -> None:
        self._step_s, self._mood = step_s, mood
        self._waiting: list[Request] = []
        self._active: dict[int, tuple[Request, int]] = {}  # ticket -> its text, steps made
        self.behind: int | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def active(self) -> int:
        return len(self._active)

    def submit(self, requests: Sequence[Request]) -> None:
        self._waiting += requests

    def expire(self, tickets: Iterable[int]) -> None:
        """Not simulated: no deadline is set."""

    def step(self) -> list[Verdict]:
        while self._mood.hang.is_set():
            time.sleep(1)
        if self._mood.fail.is_set():
            self._mood.fail.clear()
            raise RuntimeError("a step was told to fail")
        while self._waiting and len(self._active) < SLOTS:
            request = self._waiting.pop(0)
            self._active[request.ticket] = (request, 0)
        if any(request.token_ids[0] == _RAISES for request, _ in self._active.values()):
            raise OverflowError("a text that no step can compute")
        time.sleep(self._step_s)
        self._active = {ticket: (request, steps + 1) for ticket, (request, steps) in self._active.items()}
        left = [request for request, steps in self._active.values() if steps >= _layer(request)]
        for request in left:
            del self._active[request.ticket]
        return [_verdict(request) for request in left]


def _layer(request: Request) -> int:
    return 1 + request.token_ids[1] % LAYERS


def _verdict(request: Request) -> Verdict:
    label = request.token_ids[2] % 3
    logits = (-1.4, -0.3, 1.4)
    return Verdict(request.ticket, label, _PROBS[label], logits, _layer(request), ExitReason.CONFIDENCE, 0.4)


@dataclass(frozen=True)
class Engine:
    """Interface of an Engine as the stage and its consumer processes use it."""

    step_s: float
    mood: Mood
    encoder: Encoder = field(default_factory=Encoder)
    languages: tuple[str, ...] = ("en",)
    config: EngineConfig = field(default_factory=lambda: EngineConfig(slots=SLOTS))
    slots: int = SLOTS
    in_flight: int = 2 * SLOTS
    max_tokens: int = Encoder.max_tokens
    device: str = "simulated"

    def runner(self) -> Runner:
        return Runner(self.step_s, self.mood)

    alone = runner
