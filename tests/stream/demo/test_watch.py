"""Slots that are watched compute what others compute, and tell each text's way through them."""

import dataclasses
import json

import pytest

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.slots.packed import Packed
from earlybird.engine.text.assembly import Text
from earlybird.engine.types import Request
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.demo.watch import WatchedEngine
from earlybird.stream.monitor.passes import Exited, Pass
from earlybird.stream.stage.engine_threads import EngineBackend
from earlybird.stream.stage.messages import TimedRequest

SAID = (
    "Norvex cuts full-year outlook",
    "Have held $NRVX since 9 dollars. Not selling.",
    "Telmaris scraps TL-204 after trial failure",
    "Oaktarn REIT to publish half-year report on July 30",
    "Quavestra Software says breach affected fewer than 200 customers",
    "Norvex\x1b[2J opens \u202eoffice in Porto",
)


@pytest.fixture(scope="module")
def small(engine: Engine) -> Engine:
    """The bundled model in two slots."""
    return dataclasses.replace(engine, config=EngineConfig(runner="packed", slots=2))


def requests(engine: Engine | WatchedEngine) -> list[Request]:
    """The texts as requests."""
    encoded = engine.encoder.encode([Text((said,)) for said in SAID])
    return [Request(ticket, each.token_ids) for ticket, each in enumerate(encoded) if each is not None]


def drained(engine: Engine | WatchedEngine) -> list[tuple[int, int, tuple[float, ...]]]:
    """What a runner says to them, in order."""
    runner, said = engine.runner(), []
    runner.submit(requests(engine))
    while runner.active or runner.waiting:
        said += [(verdict.ticket, verdict.exit_layer, verdict.logits) for verdict in runner.step()]
    return said


def test_watching_changes_no_bit(small: Engine) -> None:
    """The same verdicts in the same order; the engine itself is as before."""
    assert drained(WatchedEngine(small, lambda _: None, 0.0)) == drained(small)
    assert type(small.runner()) is Packed
    assert isinstance(WatchedEngine(small, lambda _: None, 0.0), EngineBackend)


def test_every_text_climbs_layer_by_layer_and_leaves_once(small: Engine) -> None:
    """Passes tell depth 1, 2, ... of each text, and its exit with the model's answer; totals add up."""
    told: list[Pass] = []
    watched = WatchedEngine(small, told.append, 0.0)
    exits = {ticket: layer for ticket, layer, _ in drained(watched)}
    for ticket, said in enumerate(SAID):
        way = [text for each in told for text in each.texts if text.ticket == ticket]
        *climbing, last = way
        assert [text.depth for text in climbing if not isinstance(text, Exited)] == list(range(1, exits[ticket]))
        assert isinstance(last, Exited) and last.layer == exits[ticket]
        assert last.text == " ".join(said.replace("\x1b", " ").replace("\u202e", " ").split())
    assert all(len(each.texts) <= 2 and each.slots == 2 for each in told)
    last_pass = told[-1]
    assert (last_pass.passes, last_pass.left, last_pass.staying) == (len(told), len(SAID), ())


def test_a_pass_survives_its_way_to_the_display(small: Engine) -> None:
    """As bytes and back."""
    told: list[Pass] = []
    drained(WatchedEngine(small, told.append, 0.0))
    for each in told:
        assert Pass.from_fields(json.loads(each.to_bytes())["pass"]) == each


def test_the_comparison_takes_the_texts_that_were_submitted(small: Engine) -> None:
    """Through the threads' door; without texts there is none."""
    watched = WatchedEngine(small, lambda _: None, 0.0)
    assert watched.comparison() == {}
    threads = watched.serve(1, ManualClock(1))(lambda _: None, lambda _: None)
    threads.submit([])
    threads.submit([TimedRequest(each.ticket, each.token_ids) for each in requests(watched)])
    compared = watched.comparison()
    assert (compared["texts"], compared["size"]) == (len(SAID), 2)
    assert compared["slots"]["token_passes"] < compared["batches"]["token_passes"]


def test_other_runners_run_unwatched(small: Engine) -> None:
    """One text at a time has no slots to tell of, and no batch to be compared with."""
    reference = dataclasses.replace(small, config=EngineConfig(runner="reference"))
    told: list[Pass] = []
    watched = WatchedEngine(reference, told.append, 0.0)
    assert {(t, layer) for t, layer, _ in drained(watched)} == {(t, layer) for t, layer, _ in drained(small)}
    assert told == [] and watched.comparison() == {}
