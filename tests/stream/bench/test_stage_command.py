"""What the bench measures is what it says: every text different and readable, every step over all of them."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from earlybird.engine.types import Request
from earlybird.stream.adapters.embedded import CLIENT_OPTIONS, EmbeddedBroker
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.bench.consumer_processes import ConsumerRun, conclusion, measure
from earlybird.stream.bench.load import fill, records
from earlybird.stream.bench.null import NullRunner, rate_of
from earlybird.stream.bench.report import Report, Whole
from earlybird.stream.bench.steps import steps
from earlybird.stream.bench.workers import BenchTarget, Workers
from earlybird.stream.config.client_options import KafkaEndpoint
from earlybird.stream.errors import SettingsError
from earlybird.stream.parsing.records import Limits, Readable, read, text_of
from project import ROOT

TEXTS = 600


@pytest.fixture(scope="module")
def place() -> Iterator[BenchTarget]:
    """The embedded broker with a filled raw topic."""
    with EmbeddedBroker({"raw": 4, "signals": 4, "signals.control": 1, "signals.dlq": 1, "told": 4}) as broker:
        fill(broker.bootstrap_servers, "raw", TEXTS)
        yield BenchTarget(KafkaEndpoint(broker.bootstrap_servers, CLIENT_OPTIONS), "raw", 4, "signals")


def test_every_text_of_the_load_is_readable_and_different() -> None:
    """A repeated text would be answered by the duplicate check, a refused one costs less."""
    elements = [element for record in records("raw", TEXTS) for element in read(record, Limits())]
    texts = {text_of(element.item) for element in elements if isinstance(element, Readable)}
    assert len(texts) == TEXTS


@pytest.mark.parametrize(("spec", "rate"), [("null", None), ("null:70000", 70_000.0)])
def test_a_device_is_named_by_its_rate(spec: str, rate: float | None) -> None:
    """As `--engine` takes it."""
    assert rate_of(spec) == rate


@pytest.mark.parametrize("spec", ["null:", "null:fast", "null:0", "cuda"])
def test_a_device_without_a_rate_is_refused(spec: str) -> None:
    """Before anything is measured."""
    with pytest.raises(SettingsError, match=f"was '{spec}'"):
        rate_of(spec)


def test_the_null_runner_answers_every_request_once() -> None:
    """Else texts would wait for ever."""
    runner = NullRunner(None)
    runner.submit([Request(ticket, (1, 2)) for ticket in range(5)])
    assert [verdict.ticket for verdict in runner.step()] == [0, 1, 2, 3, 4]
    assert runner.step() == []


def test_every_step_sees_every_text(place: BenchTarget) -> None:
    """The first poll ends the waiting and is left out of the rates of consuming; nothing else is left out."""
    found = {step.name: step for step in steps(place, TEXTS)}
    consumed = {"consume", "consume(500) alone"}
    assert {step.texts for name, step in found.items() if name not in consumed} == {TEXTS}
    assert all(step.texts < TEXTS for name, step in found.items() if name in consumed)
    assert [name for name, step in found.items() if step.calibration] == [
        "consume(500) alone",
        "validate_json alone",
        "tokenise",
        "trace, off",
        "trace, not sampled",
        "trace, sampled",
        "frame, json-schema",
        "read, json-schema",
        "frame, avro",
        "read, avro",
    ]


def test_two_workers_share_the_texts_and_publish_each_once(place: BenchTarget) -> None:
    """Both hold their share before the race begins, and nothing is measured that was not done."""
    own = replace(place, signals="told")
    with Workers(own, "null:100000", 2) as workers:
        workers.go()
        each = workers.measured()
    assert len(each) == 2
    tail, keys = (
        Tail(place.endpoint, ["told"], start="beginning"),
        list[bytes | None](),
    )
    ends = tail.ends()
    while not tail.reached(ends):
        keys += [record.key for record in tail.poll(100)]
    tail.close()
    assert len(keys) == len(set(keys)) == TEXTS


def test_consumer_processes_share_the_texts_of_one_device(place: BenchTarget) -> None:
    """Every text passes the device, whichever consumer process read it; both sides' CPU time is told."""
    run = measure(place, "null:100000", 2)
    assert run.processes == 2
    assert 0 < run.texts <= TEXTS
    assert run.consumer_us > 0 and run.engine_us > 0


def test_the_conclusion_says_how_many_consumer_processes_a_device_wants() -> None:
    """From CPU time: rates on a machine with too few cores say nothing of one with enough."""
    runs = [ConsumerRun(1, 6_000, 1.0, 1.2, 8.0), ConsumerRun(2, 6_000, 0.6, 1.2, 8.0)]
    said = conclusion(runs, 70_000)
    assert "A core consumes 5,000 texts/s; that of the engine's process passes 125,000 on." in said
    assert "6,000 texts/s with 1; 2 consumer processes: +4,000 texts/s on 1." in said
    assert "wants 14 consumer processes" in said
    assert "take two" in conclusion(runs, 200_000) and "take two" not in said


def test_the_report_holds_rates_and_not_only_sums() -> None:
    """For machines as for people."""
    report = Report("embedded", {}, wholes=[Whole("stage", 2, 500, 1.0, 2.0)])
    assert report.as_json()["wholes"][0]["per_cpu_s"] == 250


def test_tables_are_whole_in_a_pipe() -> None:
    """Eighty columns, which rich takes where there is no terminal, cut the names of columns."""
    code = (
        "from earlybird.stream.bench.tables import bench_console; bench_console(stderr=False).print('x' * 130, end='')"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert shown.stdout == "x" * 130
