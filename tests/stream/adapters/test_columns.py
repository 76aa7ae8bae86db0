"""Replays of files by their columns: the same signals as by their messages, for less."""

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earlybird.schemas.codec import decode
from earlybird.schemas.signal import Signal, SignalAction
from earlybird.stream.client import Empirical, Filters, Signals
from earlybird.stream.parsing.records import Refusal
from earlybird.stream.ports import Position, Record
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.outcome import signal_record
from earlybird.stream.strategies.invented import invented
from earlybird.stream.subscription.selection import Selection
from earlybird.stream.subscription.signal_headers import SignalHeaders
from earlybird.stream.timeline.availability import StampedRecord
from project import ROOT

pa = pytest.importorskip("pyarrow", reason="NO PYARROW: pip install -e '.[strategies]'")

T0 = 1_700_000_000_000_000
SECOND = 1_000_000


def archive(root: Path, recorded: list[tuple[Signal, int]], partitions: int = 3) -> None:
    """These signals, spread over partitions by item key."""
    from earlybird.schemas.rejection import Reason
    from earlybird.stream.archive.writer import Archiver

    refusal = Refusal(Position("news.raw", 0, 0), Reason.STALE, "", None)
    entry = Entry(refusal, Record("news.raw", 0, 0, None, None), 0, T0)
    offsets = [0] * partitions
    with Archiver(root, ["signals"]) as archiver:
        for signal, at_us in recorded:
            sent = signal_record(signal, entry, "signals")
            number = sum(signal.item_key.encode()) % partitions
            record = Record("signals", number, offsets[number], sent.key, sent.value, at_us, sent.headers)
            archiver.add(StampedRecord(record, appended=True))
            offsets[number] += 1


SIGNALS = st.builds(
    lambda item, score, symbols, action, kind, source, relevance, dup_count: invented(
        item,
        T0,
        score,
        symbols=symbols,
        action=action,
        item_type=kind,
        source=source,
        relevance=relevance,
        dup_count=dup_count,
    ),
    st.sampled_from("abcdefgh"),
    st.floats(-1, 1).map(lambda score: round(score, 6)),
    st.lists(st.sampled_from(["NVDA", "AMD", "BRK.B"]), unique=True),
    st.sampled_from(SignalAction),
    st.sampled_from(["news", "tweet"]),
    st.sampled_from(["wire", "x"]),
    st.lists(st.none() | st.sampled_from([0.0, 0.4, 0.9, 1.0]), min_size=3, max_size=3),
    st.integers(0, 3),
)
WANTED = st.fixed_dictionaries(
    {},
    optional={
        "symbols": st.lists(st.sampled_from(["NVDA", "AMD", "TSLA"]), max_size=2),
        "labels": st.lists(st.sampled_from(["positive", "negative", "neutral"]), max_size=2),
        "min_confidence": st.sampled_from([0.0, 0.3, 0.7]),
        "sources": st.lists(st.sampled_from(["wire", "y"]), max_size=2),
        "item_types": st.lists(st.sampled_from(["news", "tweet"]), max_size=2),
        "single_symbol": st.booleans(),
        "max_duplicates": st.sampled_from([None, 0, 1]),
        "min_relevance": st.sampled_from([0.0, 0.4, 0.95]),
    },
)


@settings(deadline=None)  # pyarrow is imported in the first case
@given(signals=st.lists(SIGNALS, min_size=1, max_size=12), wanted=WANTED)
def test_columns_decide_as_headers_do(signals: list[Signal], wanted: dict[str, object]) -> None:
    """Filter by filter, and all together."""
    from earlybird.stream.adapters.parquet import signal_row
    from earlybird.stream.adapters.signal_criteria import matching

    selection = Selection.of(**wanted)  # type: ignore[arg-type]
    schema = pa.schema(
        [(name, pa.string()) for name in ("label", "source", "item_type")]
        + [("confidence", pa.float64()), ("symbols", pa.list_(pa.string()))]
        + [("dup_count", pa.int64()), ("relevance", pa.list_(pa.float64()))]
    )
    table = pa.Table.from_pylist([signal_row(signal) for signal in signals], schema=schema)
    assert matching(table, selection).to_pylist() == [selection.matches(SignalHeaders.of_signal(s)) for s in signals]


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Signal, int]]]:
    """A recording with corrections and retractions, and its archive."""
    symbols, recorded = ["NVDA", "AMD", "TSLA", "IBM"], list[tuple[Signal, int]]()
    for number in range(3_000):
        at_us, item = T0 + number * 7 * SECOND, str(number % 800)
        action = SignalAction.NEW if number < 800 else SignalAction.RETRACT if number % 7 == 0 else SignalAction.CORRECT
        score = ((number * 37) % 200 - 100) / 100
        named = [symbols[number % 4], *(["GM"] if number % 5 == 0 else [])]
        signal = invented(
            item, at_us, score, symbols=named, revision=number // 800, action=action, relevance=[number % 10 / 10],
            dup_count=number % 3,
        )  # fmt: skip
        recorded.append((signal, at_us))
    root = tmp_path_factory.mktemp("archive")
    archive(root, recorded)
    return root, recorded


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"symbols": ["NVDA"]},
        {"labels": ["positive"], "min_confidence": 0.8},
        {"min_confidence": 0.9, "distinct": True, "remember": 20},
        {"min_relevance": 0.5, "symbols": ["TSLA", "GM"]},
        {"max_duplicates": 0, "min_confidence": 0.2},
        {"symbols": ["IBM"], "held": ["wire:5", "wire:6"]},
        {"symbols": ["AMD"], "start": T0 + 5_000 * SECOND, "end": T0 + 12_000 * SECOND, "latency": "250ms"},
        {"labels": ["negative"], "latency": Empirical.measured([1_000, 900 * SECOND, 40 * SECOND])},
    ],
    ids=["all", "symbol", "sure", "distinct", "relevant", "novel", "held", "range", "measured latency"],
)
def test_an_archive_gives_what_the_signals_give(
    tape: tuple[Path, list[tuple[Signal, int]]], about: dict[str, object]
) -> None:
    """What follows on a delivered item included, one by one and as a table."""
    root, recorded = tape
    expected = Signals.replay(recorded, **about)  # type: ignore[arg-type]
    played = Signals.replay(root, **about)  # type: ignore[arg-type]
    assert list(played) == list(expected)
    assert played.counts == expected.counts
    table = Signals.replay(root, **about).to_arrow(10_000)  # type: ignore[arg-type]
    assert table.equals(Signals.replay(recorded, **about).to_arrow(10_000))  # type: ignore[arg-type]


def test_what_is_filtered_is_never_decoded(
    tape: tuple[Path, list[tuple[Signal, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is anything for a table but a signal of each model, to know what that had learned."""
    from earlybird.stream.subscription import recorded_items

    decoded: list[bytes] = []

    def counted(kind: type[Signal], value: bytes) -> Signal:
        decoded.append(value)
        return decode(kind, value)

    monkeypatch.setattr(recorded_items, "decode", counted)
    wanted = list(Signals.replay(tape[0], sources=["wire"], labels=["positive"], min_confidence=0.99))
    assert 0 < len(decoded) == len(wanted) < 200
    decoded.clear()
    assert Signals.replay(tape[0]).to_arrow(3_000).num_rows == 3_000
    assert len(decoded) == 1


@pytest.mark.no_cover
def test_a_table_takes_a_small_multiple_of_its_size(tape: tuple[Path, list[tuple[Signal, int]]]) -> None:
    """Python's memory is not where signals of a table are."""
    Signals.replay(tape[0]).to_arrow(10)  # what is loaded once
    tracemalloc.start()
    try:
        table = Signals.replay(tape[0]).to_arrow(3_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * table.nbytes


@pytest.mark.no_cover
def test_a_table_of_messages_is_made_piece_by_piece() -> None:
    """Of an iterable no more than a piece is held as objects."""

    def recorded() -> list[tuple[Signal, int]]:
        return [(invented(str(number), T0), T0 + number) for number in range(200)]

    pairs = recorded() * 1
    whole = [pairs[number % 200][0] for number in range(20_000)]
    tracemalloc.start()
    try:
        table = Signals.replay((signal, T0 + number) for number, signal in enumerate(whole)).to_arrow(20_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert table.num_rows == 20_000 and peak < 4 * table.nbytes


def test_columns_of_an_older_archive_come_from_its_messages(
    tape: tuple[Path, list[tuple[Signal, int]]], tmp_path: Path
) -> None:
    """One without the columns that were added since; filters on them decide alike."""
    import pyarrow.parquet as pq

    for path in tape[0].rglob("*.parquet"):
        older = tmp_path / path.relative_to(tape[0])
        older.parent.mkdir(parents=True, exist_ok=True)
        table = pq.read_table(path, partitioning=None)
        added = ["dup_of", "model_id", "dup_count", "relevance", "headline", "url"]
        pq.write_table(table.drop_columns(added), older)
    assert Signals.replay(tmp_path).to_arrow(3_000).equals(Signals.replay(tape[0]).to_arrow(3_000))
    wanted: Filters = {"max_duplicates": 1, "min_relevance": 0.3}
    received = list(Signals.replay(tmp_path, **wanted))
    assert received == list(Signals.replay(tape[0], **wanted)) and 0 < len(received) < 3_000


def test_a_table_of_nothing_has_its_columns(tmp_path: Path) -> None:
    """So that a query over an empty hour works."""
    table = Signals.replay([]).to_arrow(5)
    assert table.num_rows == 0 and "score" in table.column_names
    assert Signals.replay([(invented("1", T0), T0)]).to_arrow(0).num_rows == 0


def test_a_file_out_of_order_shows_no_future(tmp_path: Path) -> None:
    """Whoever wrote it."""
    import pyarrow.parquet as pq

    archive(tmp_path, [(invented(str(number), T0), T0 + number) for number in range(10)], partitions=1)
    (path,) = tmp_path.rglob("*.parquet")
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.take(list(range(9, -1, -1))), path, row_group_size=2)
    assert [signal.available_us - T0 for signal in Signals.replay(tmp_path)] == list(range(10))


def test_the_example_of_aligned_rows_runs(tape: tuple[Path, list[tuple[Signal, int]]]) -> None:
    """As its docstring has it: one frame on the bars of the other."""
    code = (
        "import doctest, sys, earlybird.stream.strategies.alignment as module;"
        "outcome = doctest.testmod(module); print(outcome.attempted, outcome.failed);"
        "sys.exit(outcome.failed or not outcome.attempted)"
    )
    pytest.importorskip("exchange_calendars", reason="NO EXCHANGE_CALENDARS: pip install -e '.[strategies]'")
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_signal_tells_its_instant_wherever_it_is_written() -> None:
    """In a dump as in an attribute; the wire has the signal alone."""
    (received,) = Signals.replay([(invented("1", T0), T0 + 5)])
    assert received.model_dump()["available_us"] == T0 + 5
    assert '"available_us":' in received.model_dump_json()
    assert received.available_at.isoformat() == "2023-11-14T22:13:20.000005+00:00"
