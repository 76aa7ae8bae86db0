"""Exactly-once against a model: pipeline and publisher in every order, and a broker that aborts, refuses and forgets.

What readers of committed records see is checked after each step; at the end everything is driven to its outcome.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from queue import SimpleQueue
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from earlybird.engine.text.tokenizer import duplicate_key
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.adapters.memory import MemorySource, NoCache
from earlybird.stream.bench import null
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.observability.metrics import Metrics
from earlybird.stream.parsing.records import Limits
from earlybird.stream.ports import Commit, Outgoing, Partition, Record
from earlybird.stream.stage import backpressure, commit_map, duplicates, pipeline, publisher, transactions
from earlybird.stream.stage.budget import Budget
from earlybird.stream.stage.chains import Chains
from earlybird.stream.stage.duplicates import Deduplicator
from earlybird.stream.stage.messages import (
    Answer,
    Answers,
    Ended,
    FromPublisher,
    Prepare,
    Prepared,
    TimedRequest,
    ToTransaction,
)
from earlybird.stream.stage.pipeline import Pipeline
from earlybird.stream.stage.publisher import Publisher
from earlybird.stream.stage.transactions import TransactionSteps
from memory_transactions import MemoryTransactions

PARTITIONS = (Partition("news.raw", 0), Partition("news.raw", 1))
BUDGET = Budget(
    max_in_flight=50, poll_timeout_ms=0, transaction_interval_ms=0, revoke_timeout_ms=8, acknowledge_timeout_ms=8
)
Place = tuple[str, int, int, int]


class Stepped(SimpleQueue[FromPublisher]):
    """The consumer's queue: while it waits, the publisher has its turn and the broker answers, unless stuck."""

    worker: "Worker"

    def get(self, block: bool = True, timeout: float | None = None) -> FromPublisher:
        if timeout and self.worker.alive:
            self.worker.sink.acknowledge()
            self.worker.publisher.run_once(0)
        return super().get(False)  # what is not there by now does not come


class Worker:
    """One process. The group's commits and what readers see outlive it."""

    def __init__(self, committed: dict[Partition, Commit], visible: list[Outgoing]) -> None:
        self.alive = True
        self.source, self.sink = MemorySource(committed), MemoryTransactions(visible, committed)
        clock, metrics = ManualClock(null.NOW_US), Metrics(null.LAYERS)
        self.publisher = Publisher(self.sink, null.origin("signals", "raw.dlq"), "signals.control", clock, metrics)
        finished = Stepped()
        finished.worker = self
        self.publisher.finished = finished
        assert self.publisher._transactions is not None
        self.publisher._transactions._reply = finished.put
        self.requests: list[TimedRequest] = []
        key = partial(duplicate_key, model_sha256="m", config_hash="c", numerics="n")
        deduplicator = Deduplicator(NoCache(), key, 1, 1.0, answered=lambda _: None)
        self.pipeline = Pipeline(
            self.source, null.NullEncoder(), deduplicator, self, self.publisher.inbox.put, finished, clock, metrics,  # type: ignore[arg-type]
            Reader(Limits()), BUDGET, transactional=True,
        )  # fmt: skip
        self.source.subscribe(self.pipeline)
        self.source.assign(PARTITIONS)

    def submit(self, requests: list[TimedRequest]) -> None:
        self.requests += requests

    def exit(self, index: int) -> None:
        ticket = self.requests.pop(index).ticket
        self.publisher.inbox.put(Answers([Answer(ticket, null.verdict(ticket))]))


def place(outgoing: Outgoing) -> Place:
    """Of the element whose outcome this is."""
    raw = json.loads(outgoing.value or b"")["raw"]
    return (raw["topic"], raw["partition"], raw["offset"], raw["index"])


class Delivery(RuleBasedStateMachine):
    """Records come, texts exit, the broker acknowledges, aborts, refuses, partitions move, workers die."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: dict[Partition, Commit] = {}
        self.visible: list[Outgoing] = []
        self.log: list[Record] = []
        self.elements: set[Place] = set()
        self.texts = 0
        self.away: set[Partition] = set()
        self.lost: set[Partition] = set()  # of these, without a revocation
        self.start()

    def start(self) -> None:
        self.worker = Worker(self.committed, self.visible)
        self.worker.source.append(self.log)
        self.away.clear()
        self.lost.clear()

    @rule(number=st.sampled_from([0, 1]), keys=st.lists(st.integers(0, 2), min_size=0, max_size=3))
    def append(self, number: int, keys: list[int]) -> None:
        """A record that cannot be read, a text, or an array of texts; few keys, so that texts wait for others."""
        items = []
        for key in keys:
            self.texts += 1
            items.append({
                "item_key": f"wire:{key}", "source": "wire", "source_item_id": str(key), "item_type": "news",
                "ingested_us": null.NOW_US, "headline": f"Acme sells {self.texts} plants",
            })  # fmt: skip
        value = b"{" if not items else json.dumps(items if len(items) > 1 else items[0]).encode()
        offset = sum(record.partition == number for record in self.log) * 2  # with gaps
        record = Record("news.raw", number, offset, None, value, null.NOW_US)
        self.log.append(record)
        self.worker.source.append([record])
        self.elements |= {("news.raw", number, offset, index) for index in range(max(1, len(items)))}

    @rule()
    def consume(self) -> None:
        self.worker.pipeline.run_once()

    @rule()
    def publish(self) -> None:
        self.worker.publisher.run_once(0)

    @precondition(lambda self: self.worker.requests)
    @rule(data=st.data())
    def exit(self, data: st.DataObject) -> None:
        self.worker.exit(data.draw(st.integers(0, len(self.worker.requests) - 1)))

    @rule(count=st.integers(1, 3))
    def acknowledge(self, count: int) -> None:
        self.worker.sink.acknowledge(count)

    @rule()
    def everything_has_its_turn(self) -> None:
        """Once around: what has exited is committed."""
        for _ in range(2):
            self.worker.publisher.run_once(0)
            self.worker.sink.acknowledge()
            self.worker.publisher.run_once(0)
            self.worker.pipeline.run_once()

    @rule(ripe=st.booleans())
    def time_passes(self, ripe: bool) -> None:
        self.worker.sink.ripe = ripe

    @rule(commit=st.booleans())
    def broker_refuses(self, commit: bool) -> None:
        """The next transaction is aborted, or its offsets are refused, which aborts it, too."""
        if commit:
            self.worker.source.refusals = 1
        else:
            self.worker.sink.faults = 1

    @rule()
    def transaction_expires(self) -> None:
        """The broker ends what is open, at any moment: before it is prepared, or while its offsets are on their way."""
        self.worker.sink.expire()

    @rule(late=st.booleans())
    def broker_decides(self, late: bool) -> None:
        """What it has answered; `late`: from now on it answers before."""
        self.worker.sink.late = late
        self.worker.sink.decide()

    @rule(partition=st.sampled_from(PARTITIONS), lost=st.booleans(), alive=st.booleans())
    def partition_leaves(self, partition: Partition, lost: bool, alive: bool) -> None:
        if partition not in self.away:
            self.away.add(partition)
            self.lost |= {partition} if lost else set()
            self.worker.alive = alive
            (self.worker.source.lose if lost else self.worker.source.revoke)([partition])
            self.worker.source.serve_group(0)
            self.worker.alive = True

    @precondition(lambda self: self.away)
    @rule()
    def partitions_return(self) -> None:
        """After their next owner has done a part, or nothing: what counts is what is committed.

        It waits for offsets that are undecided. A crash of the broker may leave them so until this worker decides them,
        which it does when it has lost partitions."""
        self.worker.publisher.run_once(0)
        waits = self.lost & self.worker.sink.undecided.keys()
        assert not waits, f"for ever: {waits}"
        self.worker.sink.decide()
        self.lost.clear()
        self.worker.source.assign(sorted(self.away))
        self.away.clear()

    @rule()
    def die(self) -> None:
        """The broker aborts what was open."""
        self.start()

    def answered(self) -> set[Place]:
        """Elements with an outcome. A record that killed too many processes has one for all its elements."""
        killers = {
            place(outgoing)[:3] for outgoing in self.visible if dict(outgoing.headers).get("reason") == b"poison"
        }
        return {at for at in self.elements if at[:3] in killers} | set(map(place, self.visible))

    @invariant()
    def visible_once(self) -> None:
        twice = {at: count for at, count in Counter(map(place, self.visible)).items() if count > 1}
        assert not twice, twice

    @invariant()
    def commits_name_visible_outcomes_only(self) -> None:
        seen = self.answered()
        for partition, commit in self.committed.items():
            above = commit_map.decode(commit.offset, commit.metadata).finished
            for at in self.elements:
                if at[:2] == partition and (at[2] < commit.offset or at[2] in above):
                    assert at in seen, (at, commit)

    def teardown(self) -> None:
        """The faults end: nothing is lost."""
        worker = self.worker
        worker.source.refusals, worker.sink.faults, worker.sink.ripe = 0, 0, True
        self.broker_decides(late=False)
        if self.away:
            self.partitions_return()
        for _ in range(30 + 4 * len(self.elements)):
            worker.pipeline.run_once()
            while worker.requests:
                worker.exit(0)
            worker.publisher.run_once(0)
            worker.sink.acknowledge()
            self.visible_once()
        missing = self.elements - self.answered()
        assert not missing, (missing, worker.pipeline.in_flight, worker.source.committed)
        assert worker.pipeline.in_flight == 0


SETTINGS = settings(max_examples=100, stateful_step_count=50, deadline=None)
HUNT = settings(
    SETTINGS, max_examples=500, derandomize=True, database=None, report_multiple_bugs=False, phases=[Phase.generate]
)


class Ticks:
    """A clock that goes on by a millisecond whenever somebody looks: a run can be repeated."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def monotonic(self) -> float:
        self._now_s += 1 / 1024  # exact, so that no example depends on those before it
        return self._now_s


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Time passes by itself, and a stuck publisher is waited for shortly."""
    with ExitStack() as patches:
        for module in (backpressure, duplicates, pipeline, transactions):
            patches.enter_context(patch.object(module, "time", Ticks()))
        patches.enter_context(patch.object(transactions, "COMMIT_TIMEOUT_MS", 8))
        yield


def test_every_order_of_events_gives_each_outcome_once() -> None:
    """No loss, no duplicate."""
    run_state_machine_as_test(Delivery, settings=SETTINGS)


def prepare_before_flush(steps: TransactionSteps) -> None:
    """As `run_once`, without waiting for acknowledgements."""
    if not steps._prepared and (steps._asked or steps._sink.due):
        steps._sink.hold()
        steps._prepared = True
        steps._reply(Prepared())


def keep_on_loss(steps: TransactionSteps, unwanted: Any, *, ending: bool) -> list[object]:
    """As `drop`, and nothing is dropped."""
    return []


def drop_without_renewal(steps: TransactionSteps, unwanted: Any, *, ending: bool) -> list[object]:
    """As `drop`, and what the broker left undecided stays so."""
    return steps._sink.drop(unwanted)


def commit_unsettled(steps: TransactionSteps, message: ToTransaction) -> None:
    """As `handle`, without a look at what has become of the transaction since it was prepared."""
    if isinstance(message, Prepare):
        steps._asked = True
        return
    committed = steps._sink.commit(message.offsets)
    steps._prepared = steps._asked = False
    steps._reply(Ended(committed))


def one_element_before_a_death(delivery: Delivery) -> None:
    """An array of two, of which one has exited and is committed, if that can be."""
    delivery.append(0, [0, 1])
    delivery.consume()
    delivery.worker.exit(0)
    delivery.everything_has_its_turn()
    delivery.die()


def loss_during_a_transaction(delivery: Delivery) -> None:
    """A text was produced and not committed when its partition was lost; it comes back at the same commit."""
    delivery.append(0, [0])
    delivery.consume()
    delivery.worker.exit(0)
    delivery.publish()
    delivery.partition_leaves(PARTITIONS[0], lost=True, alive=True)
    delivery.partitions_return()


def expiry_before_the_offsets(delivery: Delivery) -> None:
    """The broker ends a prepared transaction while its offsets are on their way."""
    delivery.append(0, [0])
    delivery.consume()
    delivery.worker.exit(0)
    delivery.publish()
    delivery.acknowledge(1)
    delivery.publish()
    delivery.consume()
    delivery.transaction_expires()
    delivery.publish()
    delivery.commits_name_visible_outcomes_only()


def loss_of_undecided_offsets(delivery: Delivery) -> None:
    """A commit was answered and is undecided when its partition is lost; the next owner waits for it."""
    delivery.broker_decides(late=True)
    delivery.append(0, [0])
    delivery.consume()
    delivery.worker.exit(0)
    delivery.everything_has_its_turn()
    assert delivery.worker.sink.undecided
    delivery.partition_leaves(PARTITIONS[0], lost=True, alive=True)
    delivery.partitions_return()


def test_reading_goes_on_after_a_refused_transaction_whose_partitions_left() -> None:
    """Nothing is left to be committed then, and nothing would say that transactions work again."""
    delivery = Delivery()
    delivery.append(0, [0])
    delivery.consume()
    delivery.worker.exit(0)
    delivery.publish()
    delivery.acknowledge(1)
    delivery.publish()  # prepared; the consumer has not heard of it
    delivery.partition_leaves(PARTITIONS[0], lost=True, alive=True)
    delivery.publish()
    delivery.consume()
    delivery.partitions_return()
    delivery.append(0, [1])
    delivery.teardown()


STEPS: dict[str, tuple[Callable[[Delivery], None], object, str, object, str]] = {
    "a loss drops": (loss_during_a_transaction, TransactionSteps, "drop", keep_on_loss, "2"),
    "elements leave together": (one_element_before_a_death, publisher, "RecordChains", Chains, "2"),
    "only settled is committed": (expiry_before_the_offsets, TransactionSteps, "handle", commit_unsettled, "Commit"),
    "a loss renews": (loss_of_undecided_offsets, TransactionSteps, "drop", drop_without_renewal, "for ever"),
}
"""Events, the step that they need, what stands in its place, and what then shows: an outcome that is there twice, a
commit without its outcome, or offsets that stay undecided."""


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_missing_shows(step: str) -> None:
    """With the step each outcome comes once; without it the model objects."""
    scenario, target, name, instead, shown = STEPS[step]
    whole = Delivery()
    scenario(whole)
    whole.teardown()
    with patch.object(target, name, instead), pytest.raises(AssertionError, match=shown):
        broken = Delivery()
        scenario(broken)
        broken.teardown()


def test_the_search_finds_a_missing_step() -> None:
    """Offsets before the last acknowledgement: a search over all events finds them."""
    with patch.object(TransactionSteps, "run_once", prepare_before_flush), pytest.raises(AssertionError):
        run_state_machine_as_test(Delivery, settings=HUNT)
