"""The event study on invented prices: it finds what is there, and nothing where nothing is."""

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from earlybird.schemas.codec import encode
from earlybird.schemas.signal import Signal
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.client import Signals
from earlybird.stream.ports import Record
from earlybird.stream.strategies.invented import invented
from earlybird.stream.timeline.availability import StampedRecord

pd = pytest.importorskip("pandas", reason="NO PANDAS: pip install -e '.[strategies]'")
pytest.importorskip("exchange_calendars", reason="NO CALENDARS: pip install -e '.[strategies]'")

import numpy as np  # noqa: E402

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from earlybird.stream.strategies.event_study import Study, main, read_prices, study  # noqa: E402

SYMBOLS = [f"S{number:02d}.B" for number in range(20)]
SESSIONS = pd.bdate_range("2024-02-20", "2024-03-27")  # no holiday of XNYS


def run(follow: float, spelled: Callable[[str], str] = str) -> Study:
    """Every symbol has a score before each session; prices move by `follow` times the score, and by chance. `spelled`
    is how the file of prices writes the symbols."""
    rng = np.random.default_rng(5)
    signals: list[tuple[Signal, int]] = []
    rows = []
    for symbol in SYMBOLS:
        close = 100.0
        for number, day in enumerate(SESSIONS):
            score = round(float(rng.uniform(-1, 1)), 6)
            at_us = int((day + pd.Timedelta(hours=6)).timestamp()) * 1_000_000  # 01:00 or 02:00 in New York
            signals.append((invented(f"{symbol}-{number}", at_us, score, symbols=[symbol]), at_us))
            opens, close = close, close * (1 + follow * score + float(rng.normal(0, 0.01)))
            rows.append((spelled(symbol), day, opens, close, close))
    prices = pd.DataFrame(rows, columns=["symbol", "date", "open", "close", "adj_close"])
    return study(Signals.replay(sorted(signals, key=lambda pair: pair[1])), prices, placebos=100)


def test_prices_that_follow_the_score_are_found() -> None:
    """2 % times the score: about 360 basis points between the outer deciles, and no shuffle comes near."""
    found = run(follow=0.02)
    assert found.spread_session_bp == pytest.approx(360, abs=60)
    assert found.spread_session_placebo == 0.0
    assert [d.symbol_days for d in found.deciles] == [len(SYMBOLS) * len(SESSIONS[:-1]) // 10] * 10
    assert found.deciles[0].score < -0.85 and found.deciles[9].score > 0.85


def test_prices_that_do_not_are_not() -> None:
    """Where prices ignore the scores a good part of the placebos is as wide."""
    found = run(follow=0.0)
    assert abs(found.spread_session_bp) < 60
    assert found.spread_session_placebo > 0.02


def test_only_the_session_follows_not_the_day_after() -> None:
    """The invented move is over at the close: a study that mixed up its days would see it on the next."""
    found = run(follow=0.02)
    assert abs(found.spread_next_day_bp) < 60


def test_a_model_of_unknown_knowledge_is_in_sample() -> None:
    """Then nobody can say that it had not read what happened."""
    assert run(follow=0.0).in_sample


def test_an_archive_that_was_fed_late_is_no_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its signals became known after the prices' last day: that is said, with the cure. So are files that are odd."""
    pytest.importorskip("pyarrow", reason="NO PYARROW: pip install -e '.[strategies]'")
    prices = tmp_path / "prices.csv"
    prices.write_text("symbol,date,open,close,adj_close\nNVDA,2014-03-03,1,1,1\nNVDA,2014-03-04,1,1,1\n")
    with Archiver(tmp_path / "archive", ["signals"]) as archiver:
        for offset in range(3):
            signal = invented(str(offset), 1_393_800_000_000_000 + offset)
            record = Record("signals", 0, offset, b"k", encode(signal), 1_770_000_000_000_000 + offset)
            archiver.add(StampedRecord(record, appended=True))
    assert main([str(tmp_path / "archive"), str(prices)]) == 2
    told = capsys.readouterr().err
    assert "3 signals known from 2026-02-02 to 2026-02-02, prices of 1 symbols from 2014-03-03 to 2014-03-04" in told
    assert "--available ingested" in told
    prices.write_text("ticker,date\nNVDA,2014-03-03\n")
    assert main([str(tmp_path / "archive"), str(prices)]) == 2 and "symbol" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing"), str(prices)]) == 2 and main([str(tmp_path), "none.csv"]) == 2


@pytest.mark.parametrize(("suffix", "pack"), [(".csv", bytes), (".gz", gzip.compress), (".zst", zstd.compress)])
def test_prices_may_be_compressed(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    """As the command's help promises; a truncated file is refused in one line."""
    plain = b"symbol,date,open,close,adj_close\nNVDA,2014-03-03,1,2,2\nNVDA,2014-03-04,2,3,3\n"
    path = tmp_path / f"prices{suffix}"
    path.write_bytes(pack(plain))
    prices = read_prices(path)
    assert prices["close"].tolist() == [2, 3] and prices["date"].dt.day.tolist() == [3, 4]
    if suffix != ".csv":
        path.write_bytes(pack(plain)[:-4])
        assert main([str(tmp_path), str(path)]) == 2


def test_texts_of_the_models_time_are_in_sample_however_late_they_came() -> None:
    """By their own time."""
    at_us = int((SESSIONS[3] + pd.Timedelta(hours=6)).timestamp()) * 1_000_000
    signal = invented("1", at_us, symbols=["S00"])
    known = signal.model.model_copy(update={"knowledge_until_us": at_us})
    prices = pd.DataFrame(
        [("S00", day, 1.0, 1.0, 1.0) for day in SESSIONS], columns=["symbol", "date", "open", "close", "adj_close"]
    )
    recorded = [(signal.model_copy(update={"model": known}), at_us + 60_000_000)]
    assert study(Signals.replay(recorded), prices, placebos=1).in_sample


def test_no_common_day_is_said() -> None:
    """Rather than a table of nothing."""
    prices = pd.DataFrame({"symbol": ["X"], "date": [SESSIONS[0]], "open": [1.0], "close": [1.0], "adj_close": [1.0]})
    at_us = int(SESSIONS[3].timestamp()) * 1_000_000
    with pytest.raises(ValueError, match="no symbol-day"):
        study(Signals.replay([(invented("1", at_us), at_us)]), prices)


def test_prices_may_spell_symbols_in_their_own_way() -> None:
    """A share class is not lost for its dash."""
    dashed = run(0.02, lambda symbol: symbol.replace(".", "-").lower())
    assert dashed == run(0.02)
