"""What several partitions held comes in the order in which the broker got it, with bounded memory."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from earlybird.stream.ports import Partition, Record
from earlybird.stream.subscription.catch_up import CatchUp


def record(partition: int, offset: int, at_us: int) -> Record:
    return Record("signals", partition, offset, None, b"", at_us)


def history(gaps: Sequence[Sequence[int]]) -> list[list[Record]]:
    """Records of each partition, so much later than the one before."""
    return [
        [record(number, offset, 1 + sum(steps[: offset + 1])) for offset in range(len(steps))]
        for number, steps in enumerate(gaps)
    ]


def ends_of(partitions: Sequence[Sequence[Record]]) -> dict[Partition, int]:
    return {Partition("signals", each[0].partition): len(each) for each in partitions if each}


@given(
    gaps=st.lists(st.lists(st.integers(0, 5), max_size=15), min_size=1, max_size=4),
    turns=st.lists(st.integers(0, 3), max_size=200),
)
def test_history_comes_by_time_however_it_is_read(gaps: list[list[int]], turns: list[int]) -> None:
    """Ties by partition, then offset; and nothing is lost."""
    partitions = history(gaps)
    merged, catch_up = list[Record](), CatchUp(ends_of(partitions))
    left = [list(each) for each in partitions]
    for turn in [*turns, *(number for number, each in enumerate(partitions) for _ in each)]:
        if turn < len(left) and left[turn]:
            catch_up.add([left[turn].pop(0)])
            merged += catch_up.ready()
    assert catch_up.over
    expected = [each for partition in partitions for each in partition]
    assert merged == sorted(expected, key=lambda each: (each.timestamp_us, each.partition, each.offset))


def test_a_partition_that_runs_ahead_is_to_be_held() -> None:
    """Until half of what it may hold has left."""
    fast, slow = Partition("signals", 0), Partition("signals", 1)
    catch_up = CatchUp({fast: 100, slow: 100}, ahead=10)
    catch_up.add([record(0, offset, offset) for offset in range(10)])
    assert catch_up.ready() == [] and catch_up.ahead == {fast}
    catch_up.add([record(1, offset, offset) for offset in range(4)])
    assert len(catch_up.ready()) == 8 and catch_up.ahead == {fast}
    catch_up.add([record(1, offset, offset) for offset in range(4, 9)])
    catch_up.ready()
    assert catch_up.ahead == set()


def test_an_end_without_a_record_is_an_end() -> None:
    """Markers of transactions have offsets, and a compacted topic has gaps."""
    one, other = Partition("signals", 0), Partition("signals", 1)
    catch_up = CatchUp({one: 3, other: 7})
    catch_up.add([record(0, 0, 5), record(0, 1, 6)])
    assert catch_up.ready() == []
    catch_up.at_end([other])
    assert [each.offset for each in catch_up.ready()] == [0, 1] and not catch_up.over
    catch_up.at_end([one])
    assert catch_up.over


def test_without_history_there_is_nothing_to_catch_up_with() -> None:
    """Reading that starts now is live at once."""
    assert CatchUp({}).over
