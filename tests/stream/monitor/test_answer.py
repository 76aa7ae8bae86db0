"""The line that `earlybird say` and the demo show for a text: its result, or why there is none."""

import pytest

from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import Novelty, RawPosition, Signal
from earlybird.stream.monitor.answer import answer_line, outcome_line
from earlybird.stream.strategies.invented import invented

T0 = 1_700_000_000_000_000
LETTER = Rejection(
    reason=Reason.EMPTY_TEXT,
    detail="no text after cleaning",
    raw=RawPosition(topic="news.raw", partition=0, offset=7),
    rejected_us=T0,
)


def signal(*, duplicate: bool = False, symbols: tuple[str, ...] = ("NRVX",)) -> Signal:
    made = invented("1", T0, score=-0.9, symbols=symbols)
    known = Novelty(cache_hit=duplicate)
    return made.model_copy(update={"novelty": known})


def test_a_signal_shows_label_confidence_layer_time_symbols_and_text() -> None:
    """At most three symbols; a duplicate took no layer."""
    line = outcome_line(signal(), "Norvex cuts outlook", 0.0182, 100).plain
    assert line == "▼ negative  90%  layer 1 of 12  18.2 ms  NRVX  Norvex cuts outlook"
    many = outcome_line(signal(duplicate=True, symbols=("A", "B", "C", "D")), "Four", 2.0, 100).plain
    assert many == "▼ negative  90%  duplicate  2.0 s  A B C  Four"


def test_a_dead_letter_shows_its_reason() -> None:
    """In words, with its detail."""
    assert outcome_line(LETTER, "", 0.1, 100).plain == "! dead letter: empty text  no text after cleaning"
    assert answer_line({"error": "too long"}, 3, 100).plain == "! too long"


@pytest.mark.parametrize("text", ["Norvex " * 40, "a\x1b[2Jb\nc"])
def test_no_text_leaves_its_line(text: str) -> None:
    """Neither by its length nor by control codes."""
    for line in (outcome_line(signal(), text, 0.1, 60), answer_line({"error": text}, 3, 60)):
        assert line.cell_len <= 60 and line.plain.isprintable()
