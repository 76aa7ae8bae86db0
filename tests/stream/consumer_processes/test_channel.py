"""The channel between a consumer process and the engine: values arrive unchanged, whichever side waits."""

import dataclasses
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from struct import pack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earlybird.engine.config import EngineConfig
from earlybird.engine.engine import Engine
from earlybird.engine.errors import DeviceLost
from earlybird.engine.text.assembly import Text
from earlybird.engine.types import Verdict
from earlybird.schemas.signal import ExitReason
from earlybird.stream.adapters.clock import SystemClock
from earlybird.stream.bench.null import NullEncoder, NullEngine
from earlybird.stream.config.settings import Settings
from earlybird.stream.consumer_processes.channel import Channel, TicketMap
from earlybird.stream.consumer_processes.engine_server import EngineServer
from earlybird.stream.consumer_processes.process_spec import ProcessSpec
from earlybird.stream.consumer_processes.remote_engine import RemoteEngine
from earlybird.stream.errors import EngineGone
from earlybird.stream.service import origin_of
from earlybird.stream.stage.messages import Answer, Answers, Failed, TimedRequest
from project import ROOT

PLACES, LONGEST = 7, 24
PATIENCE_S = 150.0

tickets = st.integers(0, 2**50)
instants = st.none() | st.integers(-(2**60), 2**60)
requests = st.builds(
    TimedRequest,
    ticket=tickets,
    token_ids=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=LONGEST).map(tuple),
    depth_limit=st.none() | st.integers(1, 24),
    rung=st.none() | st.integers(0, 9),
    due_us=instants,
)
shares = st.tuples(*[st.floats(width=64)] * 3)
answers = st.one_of(
    st.builds(Answer, ticket=tickets, verdict=st.none(), error=st.text(max_size=40)),
    st.tuples(
        tickets,
        st.integers(0, 2),
        shares,
        shares,
        st.integers(1, 24),
        st.sampled_from(ExitReason),
        st.floats(),
        st.none() | st.integers(0, 9),
    ).map(lambda said: Answer(said[0], Verdict(*said), 5, 9)),
)


@pytest.fixture
def line() -> Iterator[Channel]:
    """A small one, so that its rings wrap around and fill up."""
    made = Channel.create(PLACES, LONGEST)
    yield made
    made.close()


def bits(answer: Answer) -> object:
    """The answer with its floats as bits: NaN is not equal to itself, and -0.0 is equal to 0.0."""
    if answer.verdict is None:
        return answer
    said = answer.verdict
    floats = pack("<7d", *said.probs, *said.logits, said.puzzlement)
    return (
        answer.ticket,
        said.ticket,
        said.label,
        said.exit_layer,
        said.exit_reason,
        said.rung,
        floats,
        answer.engine_in_us,
    )


# --- rings ----------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(sent=st.lists(requests, max_size=60), steps=st.lists(st.integers(-PLACES, PLACES), max_size=60))
def test_requests_come_out_as_they_went_in(sent: list[TimedRequest], steps: list[int]) -> None:
    """Whatever the order of puts and takes, through every turn of the ring, from empty to full."""
    line = Channel.create(PLACES, LONGEST)
    consumer, engine = line.consumer_end(), line.engine_end(TicketMap(3, 2))
    waiting, taken, unread = deque(sent), list[TimedRequest](), 0
    for step in [*steps, *([PLACES, -1] * (len(sent) // PLACES + 1))]:
        if step > 0:
            put = [waiting.popleft() for _ in range(min(step, PLACES - unread, len(waiting)))]
            consumer.requests.put(put)
            unread += len(put)
        else:
            taken += engine.requests.take()
            unread = 0
    line.close()
    assert taken == [dataclasses.replace(request, ticket=3 * request.ticket + 2) for request in sent]


@settings(max_examples=50, deadline=None)
@given(said=st.lists(answers, max_size=3 * PLACES))
def test_answers_keep_every_bit(said: list[Answer]) -> None:
    """Infinities, NaN and the sign of zero included; the engine's name for a ticket is the consumer process's again."""
    line = Channel.create(PLACES, LONGEST)
    consumer, engine = line.consumer_end(), line.engine_end(TicketMap(4, 1))
    for start in range(0, len(said), PLACES):
        some = said[start : start + PLACES]
        engine.answers.put([dataclasses.replace(answer, ticket=4 * answer.ticket + 1) for answer in some])
        assert [bits(answer) for answer in consumer.answers.take()] == [bits(answer) for answer in some]
    line.close()


def test_an_error_longer_than_its_room_is_cut(line: Channel) -> None:
    """A dead letter says how it begins; half a character is marked as such."""
    consumer, engine = line.consumer_end(), line.engine_end(TicketMap())
    engine.answers.put([Answer(1, None, error="x" * 199 + "ü" * 50)])
    (answer,) = consumer.answers.take()
    assert answer.error == "x" * 199 + "\ufffd"


def test_what_is_overwritten_unread_is_noticed(line: Channel) -> None:
    """No text ever gets the answer of another: a ring that was filled over says so."""
    consumer, engine = line.consumer_end(), line.engine_end(TicketMap())
    consumer.requests.put([TimedRequest(number, (1,)) for number in range(PLACES + 1)])
    with pytest.raises(AssertionError, match="overwritten"):
        engine.requests.take()


ECHO = """
import select, sys
from earlybird.stream.consumer_processes.channel import Channel, TicketMap
from earlybird.stream.stage.messages import Answer
*shape, count = map(int, sys.argv[1:])
end, ready = Channel(*shape).engine_end(TicketMap()), select.poll()
ready.register(end.requests.count, select.POLLIN)
while count:
    ready.poll()
    taken = end.requests.take()
    count -= len(taken)
    end.answers.put([Answer(one.ticket, None, 0, sum(one.token_ids)) for one in taken])
"""


def test_two_processes_exchange_more_than_a_ring_holds(line: Channel) -> None:
    """The other end in a process of its own, in its own time: every request is answered once and in order."""
    sent = [TimedRequest(number, tuple(range(1, 1 + number % LONGEST + 1))) for number in range(5_000)]
    shape = [str(value) for value in (*dataclasses.astuple(line), len(sent))]
    echo = subprocess.Popen([sys.executable, "-c", ECHO, *shape], pass_fds=line.descriptors, cwd=ROOT)
    heard = list[Answer]()
    with answered(line) as (remote, said, _):
        remote.submit(list(sent))
        while len(heard) < len(sent):
            heard += said.get(timeout=PATIENCE_S).answers
            remote.submit([])
    assert echo.wait(PATIENCE_S) == 0
    assert [(answer.ticket, answer.exited_us) for answer in heard] == [(r.ticket, sum(r.token_ids)) for r in sent]


# --- the two ends -----------------------------------------------------------------------------------------------------


@contextmanager
def answered(
    line: Channel, lifeline: int | None = None
) -> Iterator[tuple[RemoteEngine, SimpleQueue[Answers], SimpleQueue[Failed]]]:
    """A consumer process's Inference at work."""
    said, failed = SimpleQueue[Answers](), SimpleQueue[Failed]()
    remote = RemoteEngine(line.consumer_end(), lifeline, said.put, failed.put)
    remote.start()
    yield remote, said, failed
    remote.close(60.0)


def test_a_full_line_holds_requests_back_until_answers_are_taken(
    line: Channel, until: Callable[[Callable[[], bool]], None]
) -> None:
    """It never blocks and never overflows: what found no room goes with a later call, in its order."""
    engine = line.engine_end(TicketMap())
    with answered(line) as (remote, said, _):
        remote.submit([TimedRequest(number, (1, 2)) for number in range(PLACES + 3)])
        taken = engine.requests.take()
        assert [request.ticket for request in taken] == list(range(PLACES))
        remote.submit([])
        assert engine.requests.take() == []
        engine.answers.put([Answer(5, None, error="x"), Answer(0, None, error="y")])
        assert {answer.ticket for answer in said.get(timeout=PATIENCE_S).answers} <= {5, 0}
        until(lambda: remote.room == 2)
        remote.submit([])
        assert [request.ticket for request in engine.requests.take()] == [PLACES, PLACES + 1]


def test_whoever_hears_an_answer_has_its_room(line: Channel) -> None:
    """It may submit at once: nothing else would wake it when these were the last answers under way."""
    engine, rooms = line.engine_end(TicketMap()), SimpleQueue[int]()
    failed = SimpleQueue[Failed]()
    remote = RemoteEngine(line.consumer_end(), None, lambda _: rooms.put(remote.room), failed.put)
    remote.start()
    remote.submit([TimedRequest(number, (1, 2)) for number in range(PLACES)])
    engine.answers.put([Answer(request.ticket, None, error="x") for request in engine.requests.take()])
    assert rooms.get(timeout=PATIENCE_S) == PLACES
    remote.close(60.0)


def test_the_end_of_the_engines_process_fails_the_consumer_process(line: Channel) -> None:
    """Its texts would wait for ever."""
    read, write = os.pipe()
    with answered(line, read) as (_, _, failed):
        os.close(write)
        assert isinstance(failed.get(timeout=PATIENCE_S).error, EngineGone)
    os.close(read)


HEADLINES = [f"Acme wins order {number} worth {number} million, Bolt warns" for number in range(40)]


def test_many_consumer_processes_get_what_the_model_says(engine: Engine) -> None:
    """Bit for bit what a runner of their own would say, each under its own tickets, errors included."""
    lines = [Channel.create(PLACES, engine.max_tokens) for _ in range(3)]
    encoded = [one.token_ids for one in engine.encoder.encode([Text((text,)) for text in HEADLINES]) if one]
    runner = engine.runner()
    runner.submit([TimedRequest(number, ids) for number, ids in enumerate(encoded)])
    expected = dict[int, Verdict]()
    while runner.waiting or runner.active:
        expected.update((verdict.ticket, verdict) for verdict in runner.step())
    failures = SimpleQueue[Failed]()
    device = EngineServer(lines, engine, 2, SystemClock(), failures.put)
    device.start()
    with ExitStack() as stack:
        consumers = [stack.enter_context(answered(line)) for line in lines]
        for remote, _, _ in consumers:
            remote.submit([TimedRequest(number, ids) for number, ids in enumerate(encoded)])
        for remote, said, _ in consumers:
            heard = dict[int, Verdict]()
            while len(heard) < len(encoded):
                remote.submit([])
                with suppress(Empty):
                    heard.update((one.ticket, one.verdict) for one in said.get(timeout=0.01).answers if one.verdict)
            assert heard == expected
    device.close()
    assert failures.empty()
    for line in lines:
        line.close()


def test_deadlines_go_over_the_line() -> None:
    """A text whose time is over leaves after one layer, one with a limit at its limit."""
    engine = Engine.load(EngineConfig(policy="full"))
    line = Channel.create(PLACES, LONGEST)
    device = EngineServer([line], engine, 1, SystemClock(), SimpleQueue[Failed]().put)
    device.start()
    heard = dict[int, Verdict]()
    with answered(line) as (remote, said, _):
        remote.submit([TimedRequest(1, (2, 50, 3), due_us=1), TimedRequest(2, (2, 50, 3), depth_limit=2)])
        while len(heard) < 2:
            heard.update((one.ticket, one.verdict) for one in said.get(timeout=PATIENCE_S).answers if one.verdict)
    device.close()
    line.close()
    assert [(heard[one].exit_layer, heard[one].exit_reason.value) for one in (1, 2)] == [
        (1, "deadline"),
        (2, "deadline"),
    ]


def test_an_engine_that_fails_is_told(engine: Engine) -> None:
    """And not kept: its process must end."""
    line = Channel.create(PLACES, LONGEST)
    failures = SimpleQueue[Failed]()

    class Lost(NullEngine):
        def runner(self) -> Any:
            raise DeviceLost("gone")

    device = EngineServer([line], Lost(NullEncoder()), 1, SystemClock(), failures.put)
    device.start()
    assert isinstance(failures.get(timeout=PATIENCE_S).error, DeviceLost)
    device.close()
    line.close()


def test_a_blueprint_reads_texts_as_the_engine_does(engine: Engine) -> None:
    """Also what looks like a special token, which is no part of a serialised tokenizer."""
    line = Channel.create(PLACES, engine.max_tokens)
    told = Settings(kafka={"options": {"sasl.password": "secret"}})  # type: ignore[arg-type]
    spec = ProcessSpec(told, origin_of(engine, told), engine.encoder, tuple(engine.languages), line, 1)
    read = ProcessSpec.read(spec.write())
    line.close()
    texts = [Text((headline,)) for headline in ("[SEP] Acme [CLS] wins <pad>", "Über 4 % & more", "🚀 to the moon")]
    assert read.encoder.encode(texts) == engine.encoder.encode(texts)
    assert dataclasses.replace(read, encoder=engine.encoder) == spec
    assert read.encoder.describe() == engine.encoder.describe()
