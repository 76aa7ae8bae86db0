"""`earlybird signals`: outcomes as lines or as they are, all or those about a symbol, joined with their headlines."""

import json
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from earlybird.schemas.codec import encode
from earlybird.stream import cli
from earlybird.stream.adapters.embedded import EmbeddedBroker
from earlybird.testing import invented

T0 = 1_700_000_000_000_000
AGES_H = (72, 48, 24, 0)  # of the records, far apart: the tests of a slow run begin long after them
SIGNALS = [invented(str(number), T0, score, symbols=[name], offset=number) for number, (score, name) in enumerate(
    [(0.9, "NRVX"), (-0.8, "QVST"), (0.7, "NRVX")]
)]  # fmt: skip


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A broker with three signals, the raw record of the first, and a message that is no signal."""
    with EmbeddedBroker({"signals": 1, "raw.dlq": 1, "news.raw": 1, "tweets.raw": 1}) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        raw = {
            "schema_version": "1.0", "type": "raw", "item_type": "news", "source": "wire", "item_id": "0",
            "item_key": "wire:0", "published_us": T0, "ingested_us": T0, "headline": "Norvex lifts outlook",
        }  # fmt: skip
        producer.produce(SIGNALS[0].raw.topic, json.dumps(raw).encode(), partition=SIGNALS[0].raw.partition)
        for number, value in enumerate([*map(encode, SIGNALS), b"no signal"]):
            producer.produce("signals", value, timestamp=int(time.time() - AGES_H[number] * 3_600) * 1_000)
        producer.flush()
        yield broker.bootstrap_servers


@pytest.fixture
def shown(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[list[str], str]]:
    """shown(*options): the lines on stdout, and stderr."""
    monkeypatch.setenv("EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS", address)

    def run(*options: str, start: str = "beginning") -> tuple[list[str], str]:
        assert cli.main(["signals", "--from", start, *options]) == 0
        told = capsys.readouterr()
        return told.out.splitlines(), told.err

    return run


def test_a_line_for_each_outcome_until_nothing_comes(shown: Callable[..., tuple[list[str], str]]) -> None:
    """What is no signal is named on stderr, with its place."""
    lines, told = shown("--idle", "5")
    assert [line.split()[1] for line in lines] == ["NRVX", "QVST", "NRVX"]
    assert [line.split()[-1] for line in lines] == [signal.item_key for signal in SIGNALS]
    assert "signals/0@3" in told


def test_only_those_about_a_symbol_in_any_spelling(shown: Callable[..., tuple[list[str], str]]) -> None:
    """The limit counts what is shown."""
    lines, _ = shown("--symbol", "$nrvx", "--limit", "2")
    assert [line.split()[-1] for line in lines] == [SIGNALS[0].item_key, SIGNALS[2].item_key]


@pytest.mark.parametrize(
    ("start", "from_number"),
    [("-50h", 1), ("-1500m", 2), ("25 h ago", 2), ("offset=1", 1), ("signals/0=2", 2), ("offset=99", 3)],
)
def test_it_begins_at_a_bound(shown: Callable[..., tuple[list[str], str]], start: str, from_number: int) -> None:
    """As `dlq`, `audit` and `replay` take it: a time of the broker, or offsets; past the end nothing is old enough."""
    there = SIGNALS[from_number:]
    options = ("--limit", str(len(there))) if there else ("--idle", "1")
    lines, _ = shown(*options, start=str(int(time.time()) - 90_000) if start == "25 h ago" else start)
    assert [line.split()[-1] for line in lines] == [signal.item_key for signal in there]


def test_a_start_that_is_none_is_named(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is read."""
    for start in (["begin"], ["beginning", "end"]):
        assert cli.main(["signals", *(word for bound in start for word in ("--from", bound))]) == 2
        assert "--from" in capsys.readouterr().err


def test_json_is_the_records_as_they_are(shown: Callable[..., tuple[list[str], str]]) -> None:
    """`--json` prints a signal per line, unchanged."""
    lines, _ = shown("--json", "--limit", "3")
    assert [json.loads(line) for line in lines] == [json.loads(encode(signal)) for signal in SIGNALS]


def test_raw_topics_bring_the_headlines(shown: Callable[..., tuple[list[str], str]]) -> None:
    """An outcome waits a moment for its record, and is shown without where none comes."""
    lines, _ = shown("--raw", "--limit", "3")
    (with_headline,) = (line for line in lines if "Norvex lifts outlook" in line)
    assert "NRVX" in with_headline and len(lines) == 3
