"""An engine whose slots can be watched: after each pass it tells what they hold.

Only the demo's worker uses it. The service's runners have no hook for it and so no cost.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from earlybird.engine.bench.padded import compare
from earlybird.engine.engine import Engine
from earlybird.engine.slots.packed import Packed
from earlybird.engine.slots.runner import Runner
from earlybird.engine.text.assembly import Text
from earlybird.engine.text.encoder import Encoded, TextEncoder
from earlybird.engine.types import Request, Verdict
from earlybird.stream.monitor.passes import LONGEST_TEXT, MOST_TEXTS, Exited, InSlot, Pass
from earlybird.stream.observability.escape import plain
from earlybird.stream.ports import Clock
from earlybird.stream.stage.engine_threads import EngineThreads
from earlybird.stream.stage.messages import TimedRequest
from earlybird.stream.stage.stage import InferenceFactory

HEADLINES_KEPT = 2_000
REQUESTS_KEPT = 2_000  # texts that a comparison takes: some seconds of computing

Tell = Callable[[Pass], None]


class Memory:
    """Headlines by token ids, and the requests.

    The consumer thread writes, others read.
    """

    def __init__(self) -> None:
        self._headlines: OrderedDict[tuple[int, ...], str] = OrderedDict()
        self.requests: list[Request] = []
        self.submitted = 0

    def note(self, token_ids: tuple[int, ...], headline: str) -> None:
        """Keep a text's headline."""
        self._headlines[token_ids] = plain(headline, LONGEST_TEXT)
        if len(self._headlines) > HEADLINES_KEPT:
            self._headlines.popitem(last=False)

    def headline(self, token_ids: tuple[int, ...]) -> str:
        """Return the headline, empty where it is no longer known."""
        return self._headlines.get(token_ids, "")

    def submit(self, requests: Sequence[Request]) -> None:
        """Keep requests, the first ones."""
        room = REQUESTS_KEPT - len(self.requests)
        self.requests += [Request(each.ticket, each.token_ids) for each in requests[:room]]
        self.submitted += len(requests)


@dataclass(frozen=True)
class RememberingEncoder(TextEncoder):
    """A TextEncoder that keeps the headlines of what it encoded."""

    memory: Memory = field(default_factory=Memory)

    def encode(self, texts: Sequence[Text]) -> list[Encoded | None]:
        """Encode texts, and remember their headlines for the screen."""
        encoded = super().encode(texts)
        for text, each in zip(texts, encoded, strict=True):
            if each is not None:
                self.memory.note(each.token_ids, text.parts[0] if text.parts else "")
        return encoded


class WatchedSlots:
    """Packed slots that tell of each pass and stretch it to `pass_s`; see Runner."""

    def __init__(
        self, slots: Packed, thread: str, size: int, layers: int, labels: Sequence[str], memory: Memory,
        waiting: Callable[[int], int], tell: Tell, pass_s: float,
    ) -> None:  # fmt: skip
        self._slots, self._thread, self._size, self._layers, self._labels = slots, thread, size, layers, labels
        self._memory, self._waiting, self._tell, self._pass_s = memory, waiting, tell, pass_s
        self._requests: dict[int, Request] = {}
        self._entered = self._left = self._passes = 0
        self._computing_s = 0.0

    @property
    def behind(self) -> int | None:
        return self._slots.behind

    @behind.setter
    def behind(self, texts: int | None) -> None:
        self._slots.behind = texts

    @property
    def waiting(self) -> int:
        return self._slots.waiting

    @property
    def active(self) -> int:
        return self._slots.active

    def submit(self, requests: Sequence[Request]) -> None:
        self._slots.submit(requests)
        self._requests.update((request.ticket, request) for request in requests)

    def expire(self, tickets: Iterable[int]) -> None:
        self._slots.expire(tickets)

    def step(self) -> list[Verdict]:
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        verdicts = self._slots.step()
        took_s = time.thread_time() - cpu_s
        staying = self._slots.in_slots
        if staying or verdicts:
            self._count(staying, verdicts, took_s)
            self._tell(self._pass(staying, verdicts))
            for verdict in verdicts:
                del self._requests[verdict.ticket]
            time.sleep(max(0.0, self._pass_s - (time.perf_counter() - began_s)))
        return verdicts

    def _count(self, staying: Sequence[tuple[int, int]], verdicts: Sequence[Verdict], took_s: float) -> None:
        self._passes += 1
        self._left += len(verdicts)
        self._computing_s += took_s
        self._entered += sum(depth == 1 for _, depth in staying) + sum(each.exit_layer == 1 for each in verdicts)

    def _pass(self, staying: Sequence[tuple[int, int]], verdicts: Sequence[Verdict]) -> Pass:
        return Pass(
            self._thread, self._size, self._layers, self._waiting(self._entered), self._left, self._passes,
            self._computing_s,
            tuple(InSlot(ticket, depth, self._text(ticket)) for ticket, depth in staying[:MOST_TEXTS]),
            tuple(
                Exited(each.ticket, each.exit_layer, self._labels[each.label], max(each.probs), self._text(each.ticket))
                for each in verdicts[:MOST_TEXTS]
            ),
        )  # fmt: skip

    def _text(self, ticket: int) -> str:
        return self._memory.headline(self._requests[ticket].token_ids)


class WatchedEngine:
    """What a stage uses of an Engine, with slots that are watched.

    Other runners than packed slots run as they are and tell nothing.
    """

    def __init__(self, engine: Engine, tell: Tell, pass_s: float) -> None:
        self._engine, self._tell, self._pass_s = engine, tell, pass_s
        self.memory = Memory()
        plain_encoder = engine.encoder
        self.encoder: TextEncoder = RememberingEncoder(
            plain_encoder.profile,
            plain_encoder.assembly,
            plain_encoder.tokenizer,
            plain_encoder.max_tokens,
            self.memory,
        )
        self.languages, self.device = engine.languages, engine.device
        self.slots, self.in_flight = engine.slots, engine.in_flight
        self._entered: dict[str, int] = {}

    def runner(self) -> Runner:
        """See Engine; called on the thread that will own it."""
        runner, engine = self._engine.runner(), self._engine
        if not isinstance(runner, Packed):
            return runner
        thread = threading.current_thread().name
        waiting = partial(self._waiting, thread)
        layers, labels = engine.max_layers, engine.labels
        return WatchedSlots(runner, thread, self.slots, layers, labels, self.memory, waiting, self._tell, self._pass_s)

    def alone(self) -> Runner:
        """See Engine."""
        return self._engine.alone()

    def serve(self, threads: int, clock: Clock) -> InferenceFactory:
        """Return the factory of engine threads whose requests are remembered."""
        memory = self.memory

        class Remembering(EngineThreads):
            """Engine threads that remember their requests."""

            def submit(self, requests: list[TimedRequest]) -> None:
                memory.submit(requests)
                super().submit(requests)

        return partial(Remembering, self, threads, clock)

    def comparison(self) -> dict[str, Any]:
        """Compare slots with padded batches on the texts so far, all at once.

        Empty without texts, or where the texts are not computed in packed slots.
        """
        engine, texts = self._engine, [(0.0, request) for request in self.memory.requests]
        if not texts or not isinstance(engine.runner(), Packed):
            return {}
        return asdict(compare(engine.runner(), engine.model, engine.policy, self.slots, texts))

    def _waiting(self, thread: str, entered: int) -> int:
        self._entered[thread] = entered
        return self.memory.submitted - sum(list(self._entered.values()))
