"""`earlybird say`: its arguments, and its advice where no broker or worker answers."""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from earlybird.stream import cli
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.stream.commands import say
from earlybird.stream.demo.address import announced


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """A broker without a stage."""
    with EmbeddedBroker({"news.raw": 1, "nosuch": 1, "signals": 1, "raw.dlq": 1}) as server:
        yield server.bootstrap_servers


def test_brokers_of_settings_and_a_demo_elsewhere(
    broker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """To start another demo would not help: the text went to the brokers that are set."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", broker)
    with announced("127.0.0.1:1"):
        assert cli.main(["say", "Norvex cuts outlook", "--timeout", "5"]) == 2
    told = capsys.readouterr().err
    assert "the text is in news.raw and waits for a stage such as `earlybird run`" in told
    assert told.endswith("; kafka.bootstrap_servers is set: your demo is at 127.0.0.1:1\n")


def test_a_topic_that_no_stage_reads(broker: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The text waits for nothing."""
    with announced(broker):
        assert cli.main(["say", "Norvex cuts outlook", "--topic", "nosuch", "--timeout", "5"]) == 2
    told = capsys.readouterr().err
    assert told.endswith("the text is in nosuch where no stage reads it: topics.raw are news.raw, tweets.raw\n")


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    say.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("written", "name"),
    [("nvda", "NVDA"), ("brk-b", "BRK.B"), ("^gspc", "^GSPC"), ("es=f", "ES=F"), ("btc/usdt:usdt", "BTC/USDT:USDT"),
     ("m&m.ns", "M&M.NS"), ("cl1!", "CL1!"), ("@es#", "@ES#"), ("abc+", "ABC+"), ("0700.hk", "0700.HK")],
)  # fmt: skip
def test_symbols_of_markets_and_vendors_are_taken(written: str, name: str) -> None:
    """In the spelling of a market or vendor; it becomes the canonical name."""
    assert parsed("Norvex", "--symbol", written).symbol == [name]


@pytest.mark.parametrize("written", ["?x", "x?", "a;b", "[nvda]", "nvda'", "%20", "^", "..", "a\\b", "a,b"])
def test_a_symbol_that_nobody_has_is_refused(written: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is sent under a name that no strategy filters for."""
    with pytest.raises(SystemExit, match="2"):
        parsed("Norvex", "--symbol", written)
    assert f"--symbol: {written!r} names no instrument: " in capsys.readouterr().err


def test_an_ascii_locale_leaves_texts_as_they_were_typed() -> None:
    """Python leaves their bytes undecoded there; the stage gets the text."""
    undecoded = "Müller übernimmt €5bn".encode().decode("ascii", "surrogateescape")
    assert parsed(undecoded, "\udcff").text == ["Müller übernimmt €5bn", "\ufffd"]
