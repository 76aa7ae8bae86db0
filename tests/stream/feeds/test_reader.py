"""Raw records in the format of their topic: one outcome or skip per element, dated by the broker."""

import json
from pathlib import Path
from typing import Any

import pytest

from earlybird.schemas.rejection import Reason
from earlybird.stream.config import settings as settings_module
from earlybird.stream.config.topics import RawTopic
from earlybird.stream.errors import SettingsError
from earlybird.stream.feeds import registry
from earlybird.stream.feeds.base import Parsed
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.parsing.records import Deletion, Limits, Readable, Refusal, Skip
from earlybird.stream.ports import Position, Record
from earlybird.stream.stage.stage import reader_of
from earlybird.stream.timeline.availability import StampedRecord, date_raw

NOW_US = 1_770_000_000_000_000
CREATED_US = 1_767_623_400_000_000


def record(value: object, *, key: bytes | None = b"7", at_us: int | None = NOW_US, topic: str = "vendor.raw") -> Record:
    content = value if value is None or isinstance(value, bytes) else json.dumps(value).encode()
    return Record(topic, 2, 41, key, content, at_us)


def article(item_id: int = 1, **more: Any) -> dict[str, Any]:
    times = {"created_at": "2026-01-05T14:30:00Z", "updated_at": "2026-01-05T14:30:01Z"}
    return {"T": "n", "id": item_id, "headline": "Norvex lifts outlook", "symbols": ["NRVX"], **times, **more}


def reader(vendor: str = "alpaca", **limits: Any) -> Reader:
    return Reader(Limits(**limits), {"vendor.raw": registry.parser(vendor)})


def test_elements_have_their_places_and_their_own_bytes() -> None:
    """A skip keeps its place, so that an index means the same in every release."""
    control, refused = {"T": "success", "msg": "connected"}, article(2, created_at="soon")
    found = reader()(record([control, article(), refused]))
    assert [type(each) for each in found] == [Skip, Readable, Refusal]
    assert [each.position for each in found] == [Position("vendor.raw", 2, 41, index) for index in range(3)]
    assert isinstance(found[1], Readable) and json.loads(found[1].part or b"") == article()
    assert isinstance(found[2], Refusal) and json.loads(found[2].part or b"") == refused


def test_ingested_is_the_brokers_time_and_observed() -> None:
    """Whichever clock set it; a record without one cannot be dated."""
    (found,) = reader()(record(article()))
    assert isinstance(found, Readable) and found.part is None
    assert (found.item.ingested_us, found.item.ingested_origin) == (NOW_US, "observed")
    for at_us in (None, 0, 2**62):
        (refused,) = reader()(record(article(), at_us=at_us))
        assert isinstance(refused, Refusal) and refused.reason is Reason.BAD_TIME


def test_a_refused_version_takes_its_item_back() -> None:
    """Refused by the parser or by the stage's limits, without a word for an edit; a vendor's key names no item."""
    stale = reader(max_age_us=1_000)(record(article()))
    unread = reader()(record(article(headline="", updated_at="2026-01-05T14:41:00Z")))
    for (found,), reason in ((stale, Reason.STALE), (unread, Reason.EMPTY_TEXT)):
        assert isinstance(found, Refusal) and (found.reason, found.item_key) == (reason, "alpaca:1")
        assert found.retraction is not None and found.retraction.refused == "create"
        assert found.retraction.ingested_us == NOW_US
    assert isinstance(unread[0], Refusal) and unread[0].retraction is not None
    assert unread[0].retraction.revision == CREATED_US + 660_000_000
    (garbage,) = reader()(record(b"\x00", key=b"alpaca:1"))
    assert isinstance(garbage, Refusal) and garbage.item_key is None


def test_a_language_that_is_not_read_is_refused() -> None:
    """Under the code that the vendor's name or three letters stand for."""
    story = {"altId": "n1", "headline": "Norvex hebt Prognose an", "language": "deu", "takeSequence": 2}
    (found,) = reader("mrn")(record(story))
    assert isinstance(found, Refusal) and found.reason is Reason.LANGUAGE and found.retraction is not None
    assert found.retraction.refused == "update"
    (read,) = reader("mrn", languages=("de",))(record(story))
    assert isinstance(read, Readable) and read.item.lang == "de"


def test_a_null_record_is_a_delete_of_its_key() -> None:
    """As in our own format, for a compacted topic."""
    (found,) = reader()(record(None, key=b"alpaca:1"))
    assert isinstance(found, Deletion) and (found.item_key, found.ingested_us) == ("alpaca:1", NOW_US)


def test_records_beyond_the_limits_are_refused_whole() -> None:
    """By their size, or by what a house's own parser makes of them."""
    (large,) = reader(max_record_bytes=10)(record(article()))
    (many,) = reader(max_elements=2)(record([article(number) for number in range(3)]))
    assert isinstance(large, Refusal) and isinstance(many, Refusal)
    assert (large.reason, many.reason) == (Reason.TOO_LARGE, Reason.TOO_LARGE)


def test_a_parser_that_raises_or_says_nothing_loses_no_record() -> None:
    """A house's parser is code that nobody here has read."""

    def broken(value: bytes, received_us: int) -> list[Parsed]:
        raise LookupError(value.decode() or received_us)

    (found,) = Reader(Limits(), {"vendor.raw": broken})(record(b"abc"))
    assert isinstance(found, Refusal) and (found.reason, found.detail) == (Reason.POISON, "LookupError: abc")
    (silent,) = Reader(Limits(), {"vendor.raw": lambda *_: []})(record(b"abc"))
    assert silent == Skip(Position("vendor.raw", 2, 41), "empty")


def test_topics_without_a_parser_hold_our_own_format() -> None:
    """Both kinds side by side."""
    item = {
        "item_key": "wire:1", "source": "wire", "source_item_id": "1", "item_type": "news", "ingested_us": NOW_US - 5,
        "headline": "Norvex lifts outlook",
    }  # fmt: skip
    (found,) = reader()(record(item, topic="news.raw"))
    assert isinstance(found, Readable) and found.item.ingested_us == NOW_US - 5


def test_a_replay_dates_a_text_that_was_edited_after_its_record() -> None:
    """A back-dated topic claims a time at which this version did not exist; the parser knows its vendor's `updated`."""
    read, at_us = reader(), CREATED_US
    stamped = StampedRecord(record([article(updated_at="2026-01-05T14:41:00Z")], at_us=at_us), False)
    dated = date_raw(stamped, "auto", read.times)
    assert (dated.base_us, dated.at_us, dated.edited) == (at_us, at_us + 660_000_000, True)
    live = StampedRecord(record([article(), {"T": "success"}]), True)
    assert date_raw(live, "auto", read.times).at_us == NOW_US and not date_raw(live, "auto", read.times).edited
    assert read.times(record({}, topic="news.raw")) is None


# --- formats by name --------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package of a house, as an installer lays it down."""
    (tmp_path / "acme_wire.py").write_text(
        "from earlybird.stream.feeds.base import Parsed, Skipped\n"
        "from earlybird.stream.feeds.items import news\n"
        "from earlybird.stream.feeds.frames import json_parser\n\n"
        "def article(fields, received_us):\n"
        "    return news('acme', fields.get('n'), received_us, headline=fields.get('t'))\n\n"
        "parse = json_parser(article)\n"
    )
    folder = tmp_path / "acme_wire-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-wire\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[earlybird.feeds]\nacme = acme_wire:parse\ngone = acme_wire:missing\nnone = acme_wire:__name__\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("house")
def test_a_house_adds_its_own_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point: known to the settings, and read by the stage and by feeds like the others."""
    topics = json.dumps([{"name": "news.raw"}, {"name": "vendor.raw", "format": "acme"}])
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", topics)
    (found,) = reader_of(settings_module.load(), ("en",))(record({"n": 7, "t": "Norvex lifts outlook"}))
    assert isinstance(found, Readable) and found.item.item_key == "acme:7"
    (parsed,) = registry.feed_parser("acme")(b'[{"n": 7, "t": "Norvex"}]', NOW_US)
    assert parsed.part == b'{"n": 7, "t": "Norvex"}'


@pytest.mark.usefixtures("house")
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("alpaka", "one of earlybird, schema-registry, acme, alpaca, benzinga"),
        ("gone", "acme_wire:missing cannot be loaded: AttributeError"),
        ("none", "acme_wire:__name__ is no function"),
    ],
)
def test_a_format_that_cannot_be_read_is_a_fault_of_the_settings(
    monkeypatch: pytest.MonkeyPatch, name: str, sentence: str
) -> None:
    """Said before the stage starts, with the names that there are."""
    monkeypatch.setenv("EARLYBIRD_TOPICS__RAW", json.dumps([{"name": "vendor.raw", "format": name}]))
    with pytest.raises(SettingsError) as refused:
        settings_module.load()
    assert sentence in str(refused.value) and "topics.raw.0.format" in str(refused.value)


@pytest.mark.parametrize("name", [registry.OWN, *registry.names()])
def test_every_format_is_a_setting(name: str) -> None:
    """Our own is the default."""
    assert RawTopic(name="vendor.raw", format=name).format == name
    assert RawTopic(name="vendor.raw").format == registry.OWN
