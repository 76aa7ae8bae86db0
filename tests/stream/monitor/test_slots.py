"""The picture of the slots: a text keeps its place while it climbs, and the next one takes it over."""

from dataclasses import replace

import pytest

from earlybird.stream.monitor.passes import Exited, InSlot, Pass
from earlybird.stream.monitor.slots import Place, SlotBoard, depth, slot_lines


def told(number: int, staying: dict[int, int], exited: dict[int, int], **about: object) -> Pass:
    """A pass of two slots; ticket -> layer."""
    fields: dict[str, object] = {
        "thread": "engine-0", "slots": 2, "layers": 3, "waiting": 4, "left": 7, "passes": number,
        "computing_s": 0.1,
        "staying": tuple(InSlot(ticket, layer, f"text {ticket}") for ticket, layer in staying.items()),
        "exited": tuple(Exited(ticket, layer, "negative", 0.97, f"text {ticket}") for ticket, layer in exited.items()),
    }  # fmt: skip
    return Pass(**(fields | about))  # type: ignore[arg-type]


def shown(board: SlotBoard, width: int = 100, rows: int = 8) -> list[str]:
    return [line.plain for line in slot_lines(board, width, rows)]


def test_a_text_climbs_in_its_place_and_leaves_with_its_answer() -> None:
    """The other place is refilled meanwhile; deeper texts come first in a pass, places do not change."""
    board = SlotBoard()
    board.add([told(1, {1: 1, 2: 1}, {})])
    assert shown(board)[1:3] == [" 1 ▰▰▰▰▱▱▱▱▱▱▱▱ enters            text 1", " 2 ▰▰▰▰▱▱▱▱▱▱▱▱ enters            text 2"]
    board.add([told(2, {2: 2}, {1: 2})])
    assert shown(board)[1:3] == [
        " 1 ▰▰▰▰▰▰▰▰▱▱▱▱ ▼ negative 97%    text 1", " 2 ▰▰▰▰▰▰▰▰▱▱▱▱ at layer 2 of 3   text 2",
    ]  # fmt: skip
    board.add([told(3, {3: 1}, {2: 3})])
    assert shown(board)[1:3] == [
        " 1 ▰▰▰▰▱▱▱▱▱▱▱▱ enters            text 3", " 2 ▰▰▰▰▰▰▰▰▰▰▰▰ ▼ negative 97%    text 2",
    ]  # fmt: skip
    board.add([told(4, {3: 2}, {})])
    assert shown(board)[2] == " 2 ▰▰▰▰▰▰▰▰▰▰▰▰ free, before:     text 2"


def test_a_text_that_needs_one_pass_is_seen_too() -> None:
    """It enters and leaves in the same pass."""
    board = SlotBoard()
    board.add([told(1, {}, {5: 1})])
    assert shown(board)[1:3] == [" 1 ▰▰▰▰▱▱▱▱▱▱▱▱ ▼ negative 97%    text 5", " 2              free"]


def test_passes_that_were_not_told_leave_no_ghost() -> None:
    """The line to the display drops what nobody reads: texts of then are gone, totals are whole."""
    board = SlotBoard()
    board.add([told(1, {1: 1, 2: 1}, {}), told(9, {8: 2, 9: 1}, {})])
    assert [(place.ticket, place.layer, place.free) for place in board.places] == [(8, 2, False), (9, 1, False)]
    assert (board.totals.passes, board.totals.exited) == (9, 7)


def test_engine_threads_have_their_own_slots() -> None:
    """Totals are their sums; the queue is one."""
    board = SlotBoard()
    board.add([told(1, {1: 1}, {}), told(2, {2: 1}, {}, thread="engine-1")])
    assert [place.ticket for place in board.places if not place.free] == [1, 2]
    assert len(board.places) == 4
    assert (board.totals.passes, board.totals.waiting) == (3, 4)


def test_counters_are_words() -> None:
    """What waits, what is in use, what was answered, and what it took."""
    board = SlotBoard()
    board.add([told(3, {3: 1}, {2: 3})])
    assert shown(board, 120)[-1] == "4 waiting · 1 of 2 slots in use · 7 answered · 3 passes, no padding"


def test_a_usual_terminal_shows_all_counters() -> None:
    """80 columns hold a long run of a whole machine."""
    board = SlotBoard()
    board.add([told(9_999, {3: 1}, {}, slots=512, waiting=999, left=99_999)])
    assert shown(board, 80)[-1] == "999 waiting · 1 of 512 slots in use · 99999 answered · 9999 passes, no padding"


@pytest.mark.parametrize("width", [120, 80, 40, 12])
def test_lines_fit_the_width_and_the_rows(width: int) -> None:
    """Slots without a row are counted."""
    board = SlotBoard()
    board.add([told(1, {1: 1}, {}, slots=30)])
    lines = shown(board, width, rows=5)
    assert len(lines) == 1 + 5 + 1
    assert max(map(len, lines)) <= width
    if width >= 40:
        assert lines[5] == "   and 26 slots more"


@pytest.mark.parametrize(("layers", "cells"), [(1, 12), (3, 12), (5, 10), (8, 8), (12, 12), (24, 12)])
def test_depth_is_drawn_to_scale(layers: int, cells: int) -> None:
    """From the first pass to the last, in about a dozen cells, and never backwards."""
    drawn = [depth(Place(1, layer, layers)) for layer in range(1, layers + 1)]
    assert {len(each) for each in drawn} == {cells}
    marks = [each.count("▰") for each in drawn]
    assert marks == sorted(marks) and marks[0] >= 1 and marks[-1] == cells


def test_a_copy_stands_still() -> None:
    """For a picture."""
    board = SlotBoard()
    board.add([told(1, {1: 1}, {})])
    still = board.copy()
    board.add([told(2, {}, {1: 2})])
    assert (still.places[0].layer, board.places[0].layer) == (1, 2)


def test_no_control_character_of_a_text_reaches_the_terminal() -> None:
    """Slots show what feeds send."""
    board = SlotBoard()
    board.add([replace(told(1, {}, {}), staying=(InSlot(1, 1, "a\x1b[2Jb\u202ec"),))])
    assert shown(board)[1].endswith("a [2Jb c")
