"""`earlybird replay` over an archive as users run it: what it says, what it refuses, and that it survives kill -9."""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from earlybird.schemas.codec import encode
from earlybird.schemas.signal import Signal
from earlybird.stream import cli
from earlybird.stream.adapters.embedded import EmbeddedBroker, EmbeddedRedis
from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.adapters.topic_range import TopicHistory
from earlybird.stream.archive.writer import Archiver
from earlybird.stream.ports import Outgoing, Record
from earlybird.stream.replay.compare import Comparison
from earlybird.stream.strategies.invented import invented
from earlybird.stream.timeline.availability import StampedRecord
from earlybird.stream.timeline.merge import Window
from project import ROOT

pytest.importorskip("pyarrow")

NOW_US = 1_770_000_000_000_000
COUNT = 400


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw news a second apart, no signals."""
    folder = tmp_path_factory.mktemp("archive")
    with Archiver(folder, ["signals"]) as archiver:
        for number in range(COUNT):
            item: dict[str, Any] = {
                "item_key": f"wire:{number}",
                "source": "wire",
                "source_item_id": str(number),
                "item_type": "news",
                "ingested_us": NOW_US + number * 1_000_000,
                "headline": f"Acme wins order number {number % 300} worth {number % 300} million",
            }
            value = json.dumps(item).encode()
            archiver.add(StampedRecord(Record("news.raw", 0, number, b"k", value, item["ingested_us"]), False))
    return folder


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "earlybird.stream.cli", "replay", *map(str, arguments)]


def test_dry_run_says_what_would_be_read_and_writes_nothing(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Offsets per partition, frozen now."""
    output = tmp_path / "out"
    arguments = ["replay", "recompute", "--archive", str(archive), "--output", str(output), "--to", "offset=7"]
    assert cli.main([*arguments, "--dry-run"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["spans"], plan["records"], output.exists()) == ({"news.raw/0": [0, 7]}, 7, False)


def test_progress_shows_the_replayed_clock_on_a_terminal(archive: Path, tmp_path: Path) -> None:
    """How far, how fast, and which instant of the recording; where nobody looks nothing is drawn."""
    here = ["recompute", "--archive", archive, "--to", "offset=100", "--slack", "1s"]
    terminal, screen = os.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        command(*here, "--output", tmp_path / "a"), cwd=ROOT, stderr=screen, env=environment
    ) as drawn:
        os.close(screen)
        seen = b""
        with suppress(OSError):  # Linux raises it once the terminal's last writer has closed it
            while part := os.read(terminal, 4096):
                seen += part
    os.close(terminal)
    silent = subprocess.run(command(*here, "--output", tmp_path / "b"), cwd=ROOT, stderr=subprocess.PIPE, check=False)
    assert drawn.returncode == silent.returncode == 0
    assert b"2026-02-02 02:4" in seen and b"/100" in seen
    assert b"/100" not in silent.stderr


def test_a_recomputation_leaves_no_key_in_the_live_redis(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the settings name it, and repeated texts are there to be remembered."""
    with EmbeddedRedis() as server, closing(Redis.from_url(server.url)) as client:
        monkeypatch.setenv("EARLYBIRD_REDIS__URL", server.url)
        before = client.info("stats")["total_connections_received"]
        assert cli.main(["replay", "recompute", "--archive", str(archive), "--output", str(tmp_path / "out")]) == 0
        assert client.dbsize() == 0 and client.info("stats")["total_connections_received"] == before


def test_refusals_name_what_was_wrong(archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, status 2, and the folder is as it was."""
    here = ["--archive", str(archive), "--output", str(tmp_path / "out")]
    for arguments, reason in (
        (["recorded", *here], "holds no signals"),
        (["recompute", *here, "--format", "topic", "--topic", "signals"], "never written"),
        (["recompute", *here, "--latency", "fast"], "fast"),
        (["recompute", *here, "--from", "now", "--to", "-2h"], "before"),
        (["recompute", *here, "--latency", "empirical"], "signals"),
        (["recorded", *here, "--compare"], "--compare"),
        (["recorded", *here, "--policy", "full"], "--policy: recorded signals stay as they are"),
        ([*here, "--model", "bundled"], "--model: recorded signals stay as they are"),
        (["recompute", *here, "--order", "event", "--strict"], "looks ahead"),
    ):
        assert cli.main(["replay", *arguments]) == 2, arguments
        assert reason in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.parquet")) and not (tmp_path / "out" / ".replay").exists()


def test_a_topic_that_has_a_replay_gets_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads it would get every signal twice; nor does one whose control topic says that it is over."""
    with Archiver(tmp_path / "archive", ["signals"]) as archiver:
        for offset in range(5):
            signal = invented(str(offset), NOW_US + offset)
            archiver.add(StampedRecord(Record("signals", 0, offset, b"k", encode(signal), NOW_US + offset), True))
    topics = ["again", "again.control", "done", "done.control"]
    with EmbeddedBroker(dict.fromkeys(topics, 1)) as broker:
        monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers)
        monkeypatch.setattr("earlybird.stream.adapters.retention._ANSWER_S", 0.1)  # this broker does not tell

        def replay(output: str, topic: str) -> int:
            to = ["--output", str(tmp_path / output), "--format", "topic", "--topic", topic]
            return cli.main(["replay", "recorded", "--archive", str(tmp_path / "archive"), *to])

        def counts() -> list[int]:
            spans = TopicHistory(broker.bootstrap_servers).spans(topics, Window())
            return [span.end for _, span in sorted(spans.items())]

        assert replay("one", "again") == 0
        assert counts() == [5, 1, 0, 0]
        capsys.readouterr()
        assert replay("two", "again") == 2
        assert "--topic: again has records, a replay is there already" in capsys.readouterr().err
        sink = KafkaSink(broker.bootstrap_servers)
        sink.send(Outgoing("done.control", b"run", b"{}"))
        while sink.unacknowledged():
            sink.receipts(100)
        sink.close()
        assert replay("two", "done") == 2
        assert "--topic: done.control has records" in capsys.readouterr().err
        assert counts() == [5, 1, 0, 1] and not (tmp_path / "two").exists()


def test_a_speed_that_is_no_number_says_what_it_may_be(capsys: pytest.CaptureFixture[str]) -> None:
    """In words of its user."""
    with pytest.raises(SystemExit):
        cli.main(["replay", "--output", "x", "--speed", "fast"])
    assert "a number above 0 or max expected, was 'fast'" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from earlybird.stream.replay.recompute import VerdictLog
store, most = VerdictLog.store, int(sys.argv.pop(1))

def store_and_die(self, firsts, repeats):
    store(self, firsts, repeats)
    if len(self._known) >= most:
        self._file.write(b"half a li")
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

VerdictLog.store = store_and_die
from earlybird.stream.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.faults
def test_kill_9_and_resume_give_the_bytes_of_an_unbroken_run(archive: Path, tmp_path: Path) -> None:
    """Killed twice, in the middle of computing and of writing: after so many verdicts, and amid the next."""
    options = ["recompute", "--archive", archive, "--run-id", "again", "--slack", "1s"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    for most, more in ((60, []), (180, ["--resume"])):
        python, _, _, *words = command(*options, "--output", broken, *more)
        killed = subprocess.run([python, "-c", KILLED, str(most), *words], cwd=ROOT, capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (broken / "manifest.json").exists()
    for folder, more in ((broken, ["--resume"]), (whole, [])):
        subprocess.run(command(*options, "--output", folder, *more), cwd=ROOT, check=True, capture_output=True)
    for name in ("signals.parquet", "rejections.jsonl"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    resumed = json.loads((broken / "manifest.json").read_text())
    assert resumed["verdicts_resumed"] >= 180 and resumed["counts"]["signals"] == COUNT


def a_signal(**model: Any) -> Signal:
    fields = {
        "signal_id": "i", "item_key": "wire:1", "revision": 0, "action": "new", "source": "wire", "label": "positive",
        "probs": {"negative": 0.1, "neutral": 0.2, "positive": 0.7}, "score": 0.6, "confidence": 0.7,
        "calibrated": True, "exit": {"layer": 2, "max_layers": 8, "reason": "confidence", "puzzlement": 0.2},
        "input": {"n_tokens": 5, "truncated": False, "text_sha256": "t"}, "digest": "d",
        "model": {
            "id": "m", "sha256": "s", "profile": "p", "policy": "full", "config_hash": "c", "numerics": "n",
            "dtype": "float32", "device": "cpu", "code_version": "1",
        } | model,
        "raw": {"topic": "news.raw", "partition": 0, "offset": 0, "index": 0},
        "ts": {"ingested_us": NOW_US, "consumed_us": NOW_US, "emitted_us": NOW_US},
    }  # fmt: skip
    return Signal.model_validate(fields, strict=False)


@pytest.mark.parametrize(
    ("model", "deterministic", "change", "expected", "holds"),
    [
        ({}, True, 0.0, "equal digests", True),
        ({}, True, 1e-6, "equal digests", False),
        ({}, False, 1e-6, "tolerance", True),
        ({"numerics": "other"}, True, 1e-6, "tolerance", True),
        ({"numerics": "other"}, True, 1e-2, "tolerance", False),
        ({"sha256": "other"}, True, 1e-2, "nothing", True),
        ({"config_hash": "other"}, True, 1e-2, "nothing", True),
    ],
)
def test_comparison_says_what_may_be_expected(
    model: dict[str, str], deterministic: bool, change: float, expected: str, holds: bool
) -> None:
    """Equal digests at equal numerics in deterministic mode; a tolerance for other arithmetic; nothing of another
    model."""
    recorded, again = a_signal(), a_signal(**model)
    assert again.probs is not None
    probs = again.probs.model_copy(update={"positive": again.probs.positive - change})
    again = again.model_copy(update={"probs": probs, "digest": "d" if not change else "e"})
    comparison = Comparison(deterministic)
    comparison.record(recorded)
    comparison.cover("news.raw", 0, 0)
    comparison.add(again)
    report = comparison.report()
    assert (report["expected"], report["holds"]) == (expected, holds)
    assert report["largest_probability_change"] == pytest.approx(change, abs=1e-9)
