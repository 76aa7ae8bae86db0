"""Which signal of an item stands: by the table of schemas.order, whatever the order in which signals are read."""

from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from earlybird.schemas.order import same_result, scale_of, standing
from earlybird.schemas.raw import RevisionKind
from earlybird.schemas.signal import RawPosition, Signal, SignalAction, Times
from earlybird.stream.strategies.invented import invented
from earlybird.stream.subscription.latest import Latest

T0 = 1_770_000_000_000_000
NEW, CORRECT, RETRACT = SignalAction.NEW, SignalAction.CORRECT, SignalAction.RETRACT
COUNTER, UPDATED, PUBLISHED, NONE = RevisionKind


def signal(
    offset: int,
    kind: RevisionKind | None,
    revision: int = 0,
    action: SignalAction = NEW,
    *,
    partition: int = 0,
    published_us: int | None = None,
    emitted_us: int = T0,
    ingested_us: int = T0,
    refused: Any = None,
) -> Signal:
    """A signal of one item at a place of the raw topic; `score` tells versions apart."""
    updated_us = revision if kind is UPDATED else None
    published_us = revision if kind is PUBLISHED else published_us
    base = invented("1", T0, (offset + 1) / 10_000, revision=revision, action=action, kind=kind, refused=refused)
    times = Times(
        published_us=published_us,
        updated_us=updated_us,
        ingested_us=ingested_us,
        consumed_us=T0,
        emitted_us=emitted_us,
    )
    return base.model_copy(
        update={"raw": RawPosition(topic="news.raw", partition=partition, offset=offset), "ts": times}
    )


HOUR = 3_600_000_000
NS = T0 * 1_000
CASES: dict[str, tuple[list[Signal], int | None]] = {
    "equal publication times, no edit date": (
        [signal(0, PUBLISHED, T0), signal(1, PUBLISHED, T0, CORRECT)],
        1,
    ),
    "no times at all": ([signal(0, NONE), signal(1, NONE, action=CORRECT)], 1),
    "two creates of one key": ([signal(0, PUBLISHED, T0), signal(1, PUBLISHED, T0)], 1),
    "a text is taken back to what it was": (
        [signal(0, PUBLISHED, T0), signal(1, PUBLISHED, T0, CORRECT), signal(2, PUBLISHED, T0)],
        2,
    ),
    "a counter in nanoseconds, then a null record": (
        [signal(0, COUNTER, NS), signal(1, NONE, T0, RETRACT)],
        None,
    ),
    "a counter, a delete by time, a counter": (
        [signal(0, COUNTER, 5), signal(1, UPDATED, T0, RETRACT), signal(2, COUNTER, 6)],
        2,
    ),
    "a delete that repeats only the publication time": (
        [
            signal(0, PUBLISHED, T0),
            signal(1, UPDATED, T0 + HOUR, CORRECT, published_us=T0),
            signal(2, PUBLISHED, T0, RETRACT),
        ],
        None,
    ),
    "a delete after a create from the future": (
        [signal(0, PUBLISHED, T0 + 1_000 * HOUR), signal(1, UPDATED, T0, RETRACT)],
        None,
    ),
    "a delete and a new life after a create from the future": (
        [signal(0, UPDATED, T0 + 1_000 * HOUR), signal(1, UPDATED, T0, RETRACT), signal(2, UPDATED, T0 + HOUR)],
        2,
    ),
    "an update after a publication time in the future": (
        [signal(0, PUBLISHED, T0 + 1_000 * HOUR), signal(1, UPDATED, T0, CORRECT)],
        1,
    ),
    "a late old version": ([signal(0, COUNTER, 2), signal(1, COUNTER, 1)], 0),
    "a late old version after a delete": (
        [signal(0, COUNTER, 1), signal(1, COUNTER, 3, RETRACT), signal(2, COUNTER, 2)],
        None,
    ),
    "revision 0 counts": ([signal(0, COUNTER, 1), signal(1, COUNTER, 0, CORRECT)], 0),
    "the original is sent again after its correction": (
        [
            signal(0, PUBLISHED, T0),
            signal(1, UPDATED, T0 + HOUR, CORRECT, published_us=T0),
            signal(2, PUBLISHED, T0),
        ],
        1,
    ),
    "a correction without an edit date after one with it": (
        [signal(0, UPDATED, T0 + HOUR, published_us=T0), signal(1, PUBLISHED, T0, CORRECT)],
        1,
    ),
    "a counter changes its unit": ([signal(0, COUNTER, NS), signal(1, COUNTER, T0 // 1_000)], 1),
    "an old version of one scale does not undo another scale": (
        [signal(0, COUNTER, 5), signal(1, UPDATED, T0, CORRECT), signal(2, COUNTER, 4)],
        1,
    ),
    "partitions were added": (
        [
            signal(7, NONE, partition=3, ingested_us=T0),
            signal(0, NONE, action=CORRECT, partition=1, ingested_us=T0 + 1),
        ],
        0,
    ),
    "read again after a crash, and refused then": (
        [signal(0, NONE), signal(1, NONE, action=CORRECT), signal(1, NONE, action=RETRACT, refused="create")],
        1,
    ),
    "a refused edit": ([signal(0, COUNTER, 1), signal(1, COUNTER, 2, RETRACT, refused="create")], None),
    "a refused edit with equal times": (
        [signal(0, PUBLISHED, T0), signal(1, PUBLISHED, T0, RETRACT, refused="create")],
        None,
    ),
    "a refused old version comes late": ([signal(0, COUNTER, 2), signal(1, COUNTER, 1, RETRACT, refused="create")], 0),
    "an old version after a refused edit": (
        [signal(0, COUNTER, 1), signal(1, COUNTER, 3, RETRACT, refused="create"), signal(2, COUNTER, 2)],
        None,
    ),
    "a good version after a refused edit": (
        [signal(0, COUNTER, 1), signal(1, COUNTER, 3, RETRACT, refused="create"), signal(2, COUNTER, 3)],
        2,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_right_signal_stands_in_any_order_of_reading(name: str) -> None:
    """Read in every order, and twice: the same one stands in `standing` and in Latest."""
    signals, offset = CASES[name]
    for order in permutations(signals):
        read = [*order, *order[::-1]]
        latest = Latest[Signal]()
        for one in read:
            latest.update(one)
        for found in (standing(read), latest.get("wire:1")):
            assert (None if found is None else found.raw.offset) == offset


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"revision 0 counts"}))
def test_signals_without_a_kind_are_ordered_alike(name: str) -> None:
    """What a stage wrote before it told what a revision counts; only a 0 without any time could be either."""
    signals, offset = CASES[name]
    old = [one.model_copy(update={"revision_kind": None}) for one in signals]
    found = standing(old)
    assert (None if found is None else found.raw.offset) == offset


def test_the_unit_of_a_counter_is_part_of_its_scale() -> None:
    """Seconds, milliseconds, microseconds, nanoseconds, and numbers that are no epoch."""
    counters = [signal(0, COUNTER, number) for number in (7, T0 // 10**6, T0 // 1_000, T0, NS, 10**30)]
    assert [scale_of(one) for one in counters] == ["counter", "s", "ms", "us", "ns", "counter"]


# --- against a slow oracle --------------------------------------------------------------------------------------------


def oracle(signals: list[Signal]) -> Signal | None:
    """The table, rule by rule, over all signals at once."""
    retractions = [one for one in signals if one.action is RETRACT and not one.refused]
    latest_us: dict[int, int] = {}
    for one in signals:
        latest_us[one.raw.partition] = max(one.ts.ingested_us, latest_us.get(one.raw.partition, 0))

    def place(one: Signal) -> Any:
        partition = one.raw.partition
        deletes = any(gone.raw.partition == partition for gone in retractions)
        return latest_us[partition], deletes, partition, one.raw.offset, one.raw.index, one.revision

    results: dict[Any, Signal] = {}
    for one in sorted(signals, key=lambda one: (one.refused is not None, one.ts.emitted_us, one.digest), reverse=True):
        if one not in retractions:
            results[place(one)] = one
    last = max(map(place, retractions), default=None)
    alive = [
        one
        for at, one in sorted(results.items())
        if (last is None or at >= last)
        and not any(
            scale_of(one) == scale_of(gone) is not None and one.revision < gone.revision for gone in retractions
        )
    ]

    def replaced(one: Signal) -> bool:
        mine = scale_of(one)
        same = [other for other in alive if mine is not None and scale_of(other) == mine]
        edited = [other for other in alive if scale_of(other) == "updated_us"]
        original = (one.action is NEW or one.refused == "create") and mine == "published_us"
        return any(other.revision > one.revision for other in same) or (
            original and any((other.ts.published_us or 0) >= one.revision for other in edited)
        )

    last_one = next((one for one in reversed(alive) if not replaced(one)), None)
    return None if last_one is None or last_one.refused is not None else last_one


instants = st.integers(T0, T0 + 3)
actions = st.sampled_from([(NEW, None), (CORRECT, None), (RETRACT, None), (RETRACT, "create"), (RETRACT, "update")])


@st.composite
def elements(draw: st.DrawFn) -> Signal:
    kind = draw(st.sampled_from(RevisionKind))
    action, refused = draw(actions)
    return signal(
        draw(st.integers(0, 5)),
        kind,
        draw(st.integers(0, 3) if kind is COUNTER else instants),
        action,
        partition=draw(st.sampled_from([0, 0, 0, 1])),
        published_us=draw(st.none() | instants),
        ingested_us=draw(instants),
        emitted_us=draw(instants),
        refused=refused,
    )


def _element(one: Signal) -> Any:
    return one.raw.partition, one.raw.offset


def _version(one: Signal) -> Any:
    """What two outcomes of one element have in common."""
    action = one.refused or {NEW: "create", CORRECT: "update", RETRACT: "delete"}[one.action]
    return action, one.revision_kind, one.revision, one.ts.published_us


@given(st.lists(elements(), max_size=9), st.randoms(use_true_random=False))
def test_any_order_of_reading_gives_what_the_table_says(signals: list[Signal], random: Any) -> None:
    """Deduplicator included; several elements at one place stand for reads before and after a crash."""
    said: dict[Any, Any] = {}  # what is read twice is the same version, a result or refused
    for one in signals:
        said.setdefault(_element(one), _version(one))
    fit = [one for one in signals if said[_element(one)] == _version(one)]
    read = fit + random.choices(fit, k=len(fit)) if fit else []
    random.shuffle(read)
    latest = Latest[Signal]()
    for count, one in enumerate(read, 1):
        before = latest.get("wire:1")
        changed = latest.update(one)
        after = latest.get("wire:1")
        assert changed is not same_result(before, after)
        assert same_result(after, oracle(read[:count]))
    assert same_result(standing(read), oracle(fit))


def test_memory_does_not_grow_with_versions() -> None:
    """An item that is edited for ever holds the signal that stands, and no more than a bound where none replaces."""
    latest = Latest[Signal]()
    for number in range(1_000):
        latest.update(signal(number, COUNTER, number))
    (partition,) = latest._versions["wire:1"]._partitions.values()
    assert len(partition.versions) == 1
    for number in range(1_000, 2_000):
        latest.update(signal(number, COUNTER, 2_000 - number))
        standing_now = latest.get("wire:1")
        assert standing_now is not None and standing_now.revision == 1_000
    assert len(partition.versions) <= 64
