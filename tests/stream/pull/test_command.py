"""`earlybird pull` as users run it: its own process, a broker, a vendor's server, a signal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from earlybird.schemas.raw import RAW
from earlybird.stream import cli
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.adapters.tail import Tail
from earlybird.stream.ports import Record
from project import ROOT
from scripted_web import Web

Serve = Callable[[Callable[[ServerConnection], None]], str]


@pytest.fixture
def ground() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker({"news.raw": 1}) as broker:
        yield broker


def alpaca(socket: ServerConnection) -> None:
    """One article after a login with the right key, and then silence."""
    socket.send('[{"T":"success","msg":"connected"}]')
    login = json.loads(socket.recv())
    if login["secret"] != "hush":
        socket.send('[{"T":"error","code":402,"msg":"auth failed"}]')
        return
    socket.send('[{"T":"success","msg":"authenticated"}]')
    socket.recv()
    article = {"T": "n", "id": 5, "headline": "Norvex opens plant", "created_at": "2026-01-05T10:00:00Z", "symbols": []}
    socket.send(json.dumps([{"T": "subscription", "news": ["*"]}]))
    socket.send(json.dumps([article, article | {"id": 6, "created_at": "noon"}]))
    with suppress(ConnectionClosed):
        socket.recv()


def command(broker: EmbeddedBroker, folder: Path, secret: str, *more: str) -> subprocess.Popen[str]:
    (folder / "secret").write_text(secret + "\n")
    environment = os.environ | {
        "EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers, "EARLYBIRD_LOG__FORMAT": "json",
        "EARLYBIRD_PULL__ALPACA_KEY_ID": "id", "EARLYBIRD_PULL__ALPACA_SECRET_KEY_FILE": str(folder / "secret"),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "earlybird.stream.cli", "pull", *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_everything_acknowledged(
    ground: EmbeddedBroker, web: Web, socket_server: Serve, tmp_path: Path, how: signal.Signals
) -> None:
    """What came is on the topic under its item's key, received now; what could not be read is named; the key is not."""
    address = socket_server(alpaca)
    running = command(ground, tmp_path, "hush", "alpaca", "--url", address, "--history-url", web.url)
    try:
        tail = Tail(ground.bootstrap_servers, ["news.raw"], start="beginning")
        records: list[Record] = []
        while not records:
            records += tail.poll(50)
            assert running.poll() is None, running.communicate()
        tail.close()
        running.send_signal(how)
        out, err = running.communicate(timeout=300)
    finally:
        running.kill()
    assert (running.returncode, out) == (0, "")
    events = [json.loads(line) for line in err.splitlines()]
    assert [each["event"] for each in events] == ["pull.connected", "pull.refused", "pull.stopped"]
    assert (events[-1]["published"], events[-1]["refused"], events[-1]["open"]) == (1, 1, 0)
    assert events[0]["address"] in address and "hush" not in err
    item = RAW.validate_json(records[0].value or b"")
    assert (records[0].key, item.item_key, item.ingested_origin) == (b"alpaca:5", "alpaca:5", "observed")
    assert item.published_us is not None and item.ingested_us > item.published_us
    assert records[0].timestamp_us == item.ingested_us // 1000 * 1000


def test_a_refusal_is_one_sentence(ground: EmbeddedBroker, web: Web, socket_server: Serve, tmp_path: Path) -> None:
    """With the setting's name and status 2: to try again would not help."""
    running = command(ground, tmp_path, "wrong", "alpaca", "--url", socket_server(alpaca), "--history-url", web.url)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 2
    assert "402: auth failed; is pull.alpaca_key_id, pull.alpaca_secret_key right?" in err.splitlines()[-1]
    assert "wrong" not in err


def test_feeds_stop_after_as_many_texts_as_asked_for(
    ground: EmbeddedBroker, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the text, not at the one after it."""
    item = "<item><guid>u:{0}</guid><title>Norvex {0}</title><pubDate>Mon, 05 Jan 2026 10:00:00 GMT</pubDate></item>"
    web.answer = lambda _: (200, {}, f"<rss><channel>{item.format(1)}{item.format(2)}</channel></rss>".encode())
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", ground.bootstrap_servers)
    monkeypatch.setenv("EARLYBIRD_LOG__LEVEL", "error")
    assert cli.main(["pull", "rss", web.url, "--since", "3650d", "--limit", "1"]) == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["alpaca"], "pull.alpaca_key_id: none; set EARLYBIRD_PULL__ALPACA_KEY_ID, or _FILE"),
        (["finnhub"], "finnhub: --symbol at least once"),
        (["rss"], "rss: the address of at least one feed"),
        (["rss", "http://127.0.0.1:1", "notaurl"], "rss: an address of http or https expected, was 'notaurl'"),
        (["rss", "ftp://user:hush@wire.example/feed?key=hush"], "expected, was 'wire.example/feed'"),
        (["rss", "http://wire.example:port/"], "expected, was 'http://wire.example:port/'"),
        (["rss", "http://127.0.0.1:1", "--since", "soon"], "--since: a duration with its unit expected"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_asked(
    capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    """With the way to give it."""
    assert cli.main(["pull", *options]) == 2
    told = capsys.readouterr().err
    assert complaint in told and "hush" not in told


@pytest.mark.parametrize("command", [["pull", "rss", "http://127.0.0.1:1"], ["feed", "-"]])
def test_a_vendors_topic_gets_no_records_of_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """The stage would make a dead letter of each."""
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", '[{"name": "news.raw", "format": "alpaca"}]')
    assert cli.main(command) == 2
    assert "news.raw: read in the format alpaca (topics.raw); name another one with --topic" in capsys.readouterr().err
