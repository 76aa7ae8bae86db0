"""The whole screen: slots, tape, and typed lines, in any size; and plain lines where there is no screen."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from earlybird.schemas.signal import Label
from earlybird.stream.monitor.asked import prompt
from earlybird.stream.monitor.display import Display, View, moving, picture
from earlybird.stream.monitor.passes import Exited, InSlot, Pass
from earlybird.stream.monitor.schedules import schedule_lines
from earlybird.stream.monitor.summary import TapeTally
from earlybird.stream.monitor.tape import Kind, Row

RUN = {"passes": 42, "token_passes": 5460, "computing_ms": 1.0, "mean_ms": 250.0, "p50_ms": 1.0, "p99_ms": 1.0}
BOTH = {
    "texts": 193, "size": 8, "slots": {**RUN, "longest_ms": 495.5},
    "batches": {**RUN, "passes": 70, "token_passes": 13_650, "mean_ms": 500.0, "longest_ms": 1030.0},
}  # fmt: skip


def row(kind: Kind = Kind.SIGNAL, **about: object) -> Row:
    fields: dict[str, object] = {"symbol": "NRVX", "headline": "Norvex cuts outlook", "item_key": "you:1"}
    if kind in (Kind.SIGNAL, Kind.DUPLICATE):
        fields |= {"label": Label.NEGATIVE, "score": -0.9, "confidence": 0.97, "exit_layer": 2, "max_layers": 3}
    return Row(**({"at_us": 1, "kind": kind, "age_us": 412_000, "computed": True} | fields | about))  # type: ignore[arg-type]


def view(typed: str | None = "Norvex li") -> View:
    """A busy moment."""
    shown = View([row(headline="Norvex \U0001f680 " * 30)] * 40, TapeTally().status(1.0), "slowed down to be watched")
    staying = tuple(InSlot(ticket, 1, "Norvex \U0001f680 " * 20) for ticket in range(7))
    exited = (Exited(8, 2, "negative", 0.97, "Norvex cuts outlook"),)
    shown.board.add([Pass("engine-0", 8, 3, 5, 9, 12, 0.1, staying, exited)])
    shown.summary, shown.typed = schedule_lines(BOTH), typed
    for number in range(5):
        shown.conversation.sent(f"you:{number}", f"line {number} \U0001f680 " * 9)
    return shown


def drawn(shown: View, width: int, height: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width, height=height).print(picture(shown, width, height))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [200, 100, 80, 40, 15])
@pytest.mark.parametrize("height", [60, 30, 24, 12, 6])
def test_a_screen_of_any_size_holds_the_picture(width: int, height: int) -> None:
    """Nothing wraps, nothing scrolls, and what is typed stays in view."""
    lines = drawn(view(), width, height)
    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width
    assert "Norvex li" in lines[-1]


def test_a_usual_terminal_shows_slots_and_tape() -> None:
    """Both at 80 columns and 24 lines, with the comparison and the person's last lines."""
    lines = drawn(view(), 80, 24)
    assert sum("enters" in line for line in lines) >= 2
    assert sum("NRVX" in line for line in lines) >= 2
    assert any("Padded batches compute 2.5 times as much" in line for line in lines)
    assert [line[:8] for line in lines[-4:-1]] == ["» line 2", "» line 3", "» line 4"]


def test_a_frame_changes_nothing_that_the_next_one_shows() -> None:
    """A narrow terminal that is made wide again shows whole lines."""
    shown = view()
    before = drawn(shown, 200, 50)
    drawn(shown, 20, 10)
    assert drawn(shown, 200, 50) == before


def test_a_typed_line_is_followed_to_its_answer() -> None:
    """Sent, in a slot, answered; a copy is a duplicate, a dead letter says why."""
    shown = View()
    shown.conversation.sent("you:1", "Norvex cuts outlook")

    def state() -> str:
        (line,) = shown.conversation.lines(120)
        return line.plain

    assert state() == "» Norvex cuts outlook  sent"
    shown.board.add([Pass("engine-0", 8, 3, 0, 0, 1, 0.1, (InSlot(3, 1, "Norvex cuts outlook"),), ())])
    shown.conversation.follow(shown.board)
    assert state().endswith("in a slot, at layer 1 of 3")
    shown.conversation.take([row(item_key="you:2"), row(Kind.RETRACTION), row()])
    assert state().endswith("▼ negative 97%  left at layer 2 of 3, after 412 ms")
    shown.conversation.follow(shown.board)
    assert "in a slot" not in state()
    shown.conversation.take([row(Kind.DUPLICATE, computed=False)])
    assert state().endswith("▼ negative 97%  a duplicate, after 412 ms")
    shown.conversation.take([row(Kind.REJECTION, label=None, reason="empty_text")])
    assert state().endswith("! dead letter: empty text")


def test_a_usual_terminal_cuts_nothing_that_a_person_needs() -> None:
    """80 columns hold how to leave, an answer with its latency, and the comparison."""
    assert prompt("", 80).plain.startswith("> ▏Ctrl-C ends; or type a headline and press Enter: ")
    shown = View()
    shown.conversation.sent("you:1", "Norvex cuts outlook as orders fall " * 9)
    shown.conversation.take([row(confidence=1.0)])
    (answered,) = shown.conversation.lines(80)
    assert answered.plain.endswith("▼ negative 100%  left at layer 2 of 3, after 412 ms")
    for line in [prompt("", 80), answered, *schedule_lines(BOTH)]:
        assert cell_len(line.plain) <= 80 and not line.plain.endswith("…")


def test_the_end_of_a_long_typed_line_stays_in_view() -> None:
    """One sees what one types, wide characters and all; control characters never."""
    for typed in ("x" * 5_000 + "END", "\U0001f680" * 300 + "END", "a\u202e" * 80 + "END"):
        line = prompt(typed, 40)
        assert line.plain.endswith("END▏") and cell_len(line.plain) <= 40 and line.plain.isprintable()


def test_only_a_terminal_moves() -> None:
    """A pipe, a CI log and a terminal that cannot move the cursor get plain lines."""
    assert moving(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "xterm"}))
    assert not moving(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}))
    assert not moving(Console(file=io.StringIO()))
    out = io.StringIO()
    with Display(Console(file=out, width=80)) as display:
        display.add([row(headline="[red]Norvex[/red] " * 7), row(Kind.RETRACTION)])
        display.draw(changed=True)
    assert len(out.getvalue().splitlines()) == 2
    assert "\x1b" not in out.getvalue() and "[red]Norvex[/red]" in out.getvalue()


def test_the_comparison_says_what_a_batch_loop_would_have_done() -> None:
    """In figures and in a sentence; without one nothing is said."""
    lines = [line.plain for line in schedule_lines(BOTH)]
    assert lines[1].split()[:6] == ["42", "5,460", "250", "ms", "496", "ms"]
    assert lines[2].split()[:2] == ["70", "13,650"]
    assert lines[3] == "Padded batches compute 2.5 times as much; their texts wait 2.0 times as long."
    assert schedule_lines({}) == []
    assert all(isinstance(line, Text) for line in schedule_lines(BOTH))
