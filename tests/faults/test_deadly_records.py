"""Texts that kill the process that reads them, among good ones, on a real Kafka."""

from collections.abc import Callable
from typing import Any

import pytest

from earlybird.schemas.codec import decode
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.stage.offsets import REFUSE_AFTER, SUSPECT_AFTER

pytestmark = [pytest.mark.faults, pytest.mark.broker]

TEXTS = 60
DEADLY = (11, 40)
CODE = """
import os, signal, sys
from earlybird.engine.text.encoder import TextEncoder
encode = TextEncoder.encode

def or_die(self, texts):
    if any("segfault" in repr(text) for text in texts):
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(self, texts)

TextEncoder.encode = or_die
from earlybird.stream.cli import main
sys.exit(main(["run"]))
"""


@pytest.mark.parametrize("delivery", ["at_least_once", "exactly_once"])
def test_deadly_texts_are_dead_letters_and_the_others_have_their_signals(
    ground: Any, start_stage: Callable[..., Any], make_item: Callable[..., dict[str, Any]], delivery: str
) -> None:
    """The process is started again, as a supervisor does; the number of its deaths is bounded."""
    settings = ground.mortal(DELIVERY=delivery, INSTANCE="one")
    headlines = {number: f"Acme segfault {number}" for number in DEADLY}
    ground.publish([make_item(number, headlines.get(number)) for number in range(TEXTS)])
    deaths = 0
    with ground.watch() as watch:
        while True:
            stage = start_stage(ground.bootstrap_servers, ["-c", CODE], **settings)
            watch.until(lambda stage=stage: stage.process.poll() is not None or watch.answered == TEXTS)
            if watch.answered == TEXTS:
                break
            deaths += 1
            assert deaths <= SUSPECT_AFTER + REFUSE_AFTER * len(DEADLY), "a crash loop"
        found = watch.until_answered(TEXTS)
        assert stage.end() == 0
        assert found.balanced and (delivery == "at_least_once" or not found.repeated)
    tail = Tail(ground.bootstrap_servers, [ground.dlq], start="beginning", options={"fetch.wait.max.ms": 10})
    letters: list[Rejection] = []
    while len(letters) < len(DEADLY):
        letters += [decode(Rejection, record.value or b"") for record in tail.poll(100)]
    tail.close()
    assert {letter.item_key for letter in letters} == {f"wire:{number}" for number in DEADLY}
    assert {letter.reason for letter in letters} == {Reason.POISON}
