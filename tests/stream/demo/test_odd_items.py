"""The bundled feed, and the table of its odd items as a golden test of the whole way in."""

import json
import subprocess
import sys
from collections import Counter

import pytest

from earlybird.engine.engine import Engine
from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.stream.demo.items import DemoRecord, demo_feed, normal_items, rebased
from earlybird.stream.demo.odd_items import WORDS_OF_A_LONG_BODY
from earlybird.stream.parsing.records import Deletion, Limits, Readable, Refusal, read, text_of
from earlybird.stream.ports import Record
from project import ROOT

NOW_US = 1_770_000_000_000_000


def outcome(record: DemoRecord, offset: int, engine: Engine, first: dict[tuple[int, ...], str]) -> str:
    """What must become of it, by preprocessing and tokenising alone; `first` remembers who said what."""
    raw = Record(record.topic, 0, offset, record.key, record.value, record.at_us)
    (element,) = read(raw, Limits(languages=tuple(engine.languages)))
    if isinstance(element, Refusal):
        return f"dead letter {element.reason}" + (" and retract" if element.retraction else "")
    if isinstance(element, Deletion):
        return "retract"
    (encoded,) = engine.encoder.encode([text_of(element.item)])
    if encoded is None:
        return "dead letter empty_text and retract"
    return _result(element, encoded.token_ids, encoded.truncated, first)


def _result(element: Readable, ids: tuple[int, ...], truncated: bool, first: dict[tuple[int, ...], str]) -> str:
    key = element.item.item_key
    original = first.setdefault(ids, key)
    if element.item.action == "update":
        return "correct"
    told = "signal" if original == key else f"duplicate of {original}"
    return f"{told}, truncated" if truncated else told


def wanted(record: DemoRecord) -> str:
    """What the table says; a normal item becomes a signal."""
    odd = record.odd
    if odd is None:
        return "signal"
    told = f"dead letter {odd.reason}" if odd.reason else odd.outcome
    told += f" of {odd.of}" if odd.of else ""
    return told + (", truncated" if odd.truncated else "") + (" and retract" if odd.also_retracts else "")


@pytest.mark.parametrize("feed", [demo_feed(), rebased(demo_feed(), NOW_US, 20.0)], ids=["as recorded", "rebased"])
def test_every_record_becomes_what_its_table_says(feed: list[DemoRecord], engine: Engine) -> None:
    """Copies, corrections, deletions, strange texts and rubbish: each has its outcome, moved in time or not."""
    first: dict[tuple[int, ...], str] = {}
    for offset, record in enumerate(feed):
        name = record.odd.name if record.odd else record.key
        assert (name, outcome(record, offset, engine, first)) == (name, wanted(record))


def test_the_feed_is_lifelike() -> None:
    """About 250 records over minutes, news and tweets, in time order, with bursts; every normal text once."""
    feed = demo_feed()
    assert 220 <= len(feed) <= 280
    assert 120 <= (feed[-1].at_us - feed[0].at_us) / 1e6 <= 600
    assert [record.at_us for record in feed] == sorted(record.at_us for record in feed)
    assert min(Counter(record.topic for record in feed).values()) > 80
    per_second = Counter(record.at_us // 1_000_000 for record in feed)
    assert max(per_second.values()) > 5 * len(feed) / 235
    texts = [record.value for record in feed if record.odd is None]
    assert len(set(texts)) == len(texts) == len(normal_items())


def test_the_table_has_every_kind_of_oddity_once_by_name() -> None:
    """All outcomes occur, and a name finds its row."""
    odd = [record.odd for record in demo_feed() if record.odd]
    assert len({one.name for one in odd}) == len(odd)
    assert {one.outcome for one in odd} == {"signal", "duplicate", "correct", "retract", "dead letter"}
    (long,) = [one for one in odd if one.truncated]
    assert long.value is not None
    assert len(json.loads(long.value)["body"].split()) > WORDS_OF_A_LONG_BODY * 0.99


def test_rebasing_moves_plausible_times_and_leaves_absurd_ones() -> None:
    """The demo plays now what was recorded then; the item with a wrong unit stays wrong."""
    feed = rebased(demo_feed(), NOW_US, 2.0)
    assert feed[0].at_us == NOW_US
    for record, before in zip(feed, demo_feed(), strict=True):
        if record.odd is None:
            item, old = json.loads(record.value or b""), json.loads(before.value or b"")
            assert item["ingested_us"] == record.at_us
            assert item["ingested_us"] - item["published_us"] == pytest.approx(
                (old["ingested_us"] - old["published_us"]) / 2, abs=1
            )
    (absurd,) = [record for record in feed if record.odd and record.odd.name == "seconds-for-microseconds"]
    assert not EARLIEST_US <= json.loads(absurd.value or b"")["published_us"] <= LATEST_US


def test_the_demo_plays_the_feed_through_a_whole_stage_and_ends_with_its_figures() -> None:
    """Embedded Kafka and Redis, a worker of its own, every record accounted for, every odd item as its table says."""
    done = subprocess.run(
        [sys.executable, "-m", "earlybird.stream.cli", "demo", "--once", "--json", "--seconds", "5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    feed = demo_feed()
    odd = [record.odd for record in feed if record.odd]
    assert told["texts"] == len(feed)
    assert told["rejections"] == dict(sorted(Counter(str(one.reason) for one in odd if one.reason).items()))
    assert told["retractions"] == sum(one.outcome == "retract" or one.also_retracts for one in odd)
    assert told["corrections"] == sum(one.outcome == "correct" for one in odd)
    results = sum(told["exit_layers"].values()) + told["cache_hits"]
    assert results == len(feed) - sum(one.outcome in ("retract", "dead letter") for one in odd)
