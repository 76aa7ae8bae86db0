"""When a signal could be known."""

import pytest

from earlybird.stream.ports import Record
from earlybird.stream.timeline.availability import AVAILABLE, COMMITTED, appended_us

AT_US = 1_770_000_000_000_000


def record(*headers: tuple[str, bytes]) -> Record:
    return Record("signals", 0, 7, b"wire:1", b"{}", AT_US, headers)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((), AT_US),
        (((COMMITTED, b"%d" % (AT_US + 80_000)),), AT_US + 80_000),
        (((COMMITTED, b"%d" % (AT_US - 80_000)),), AT_US),  # the worker's clock is behind the broker's
        (((COMMITTED, b"rubbish"),), AT_US),
        (((COMMITTED, b"7"),), AT_US),
        (((COMMITTED, b"%d" % (AT_US + 80_000)), (AVAILABLE, b"%d" % (AT_US - 5))), AT_US - 5),
    ],
)
def test_signal_in_a_transaction_is_available_at_the_commit(
    headers: tuple[tuple[str, bytes], ...], expected: int
) -> None:
    """Not at its append, which readers of committed records do not see; a replay's own instant comes first."""
    assert appended_us(record(*headers)) == expected
