"""Windows as command lines write them."""

import pytest

from earlybird.stream.errors import SettingsError
from earlybird.stream.ports import Partition
from earlybird.stream.timeline.merge import Window, parse_window

MAY_1_US = 1_714_521_600_000_000


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    """Of an audit it would say that nothing is missing."""
    with pytest.raises(SettingsError, match="--from must be before --to"):
        parse_window(["2024-05-02"], ["2024-05-01"], MAY_1_US)
    assert parse_window(["2024-05-01", "offset=3"], ["news.raw/1=7"], MAY_1_US) == Window(
        MAY_1_US, slack_us=0, first={None: 3}, last={Partition("news.raw", 1): 7}
    )
