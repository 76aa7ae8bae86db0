"""All parsers of foreign bytes, each with the errors that it may raise; any other error is a finding."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from earlybird.engine.engine import BUNDLED_FOLDER
from earlybird.engine.text import tokenizer
from earlybird.engine.text.assembly import Text, assembly
from earlybird.engine.text.encoder import TextEncoder
from earlybird.engine.text.profiles import NATURAL_2
from earlybird.engine.types import Verdict
from earlybird.schemas.codec import DecodeError, decode
from earlybird.schemas.control import Heartbeat
from earlybird.schemas.rejection import Reason, Rejection
from earlybird.schemas.signal import ExitReason, Signal
from earlybird.schemas.symbols import canonical_symbol
from earlybird.stream.adapters.cache_codec import EntryCodec
from earlybird.stream.adapters.memory import MemorySink
from earlybird.stream.feeds import registry
from earlybird.stream.feeds.reader import Reader
from earlybird.stream.parsing.records import Limits, Readable, Refusal, Skip
from earlybird.stream.ports import First, Position, Record
from earlybird.stream.stage import commit_map
from earlybird.stream.stage.guarded_parser import GuardedParser
from earlybird.stream.stage.messages import Entry
from earlybird.stream.stage.trace_context import carried
from earlybird.stream.timeline.instants import FEED_FORMS, feed_us
from outcome_check import check, outcomes_of
from project import ROOT
from raw_records import NEWS, NOW_US, TWEET, written

Target = Callable[[bytes], object]

ENCODER = TextEncoder(NATURAL_2, assembly("parts-v2"), tokenizer.bundled(BUNDLED_FOLDER), max_tokens=80)
_PARSER = GuardedParser(ENCODER, Reader(Limits()))
_CACHE = EntryCodec("secret", 8)
_VERDICT = Verdict(0, 2, (0.1, 0.2, 0.7), (0.1, 0.2, 0.7), 8, ExitReason.LAST_LAYER, 0.5)
_FIRST = First("wire:1", Position("news.raw", 0, 1), NOW_US, _VERDICT)


def outcomes(value: bytes) -> None:
    """All that the stage promises of one record: its outcomes, balanced, each within a message."""
    record = _record(value)
    check(record, outcomes_of(record, MemorySink()))


def token_ids(value: bytes) -> None:
    """Parsing and tokenising: no exception of ours is turned into a dead letter."""
    record = _record(value)
    entries = [Entry(each, record, 1, NOW_US) for each in _PARSER.read(record) if not isinstance(each, Skip)]
    _PARSER.encode(entries)
    for entry in entries:
        refused = isinstance(entry.element, Refusal) and entry.element.reason is Reason.POISON
        assert not refused, entry.element
        if isinstance(entry.element, Readable):
            assert entry.encoded is not None and 0 < len(entry.encoded.token_ids) <= ENCODER.max_tokens


def cleaned(value: bytes) -> None:
    """A page of any bytes is text of bounded length."""
    text = value.decode("utf-8", "replace")
    for html in (False, True):
        whole, _ = ENCODER.assemble(Text(("Acme", text), html=html))
        assert len(whole) <= 16 * ENCODER.max_tokens


def messages(value: bytes) -> None:
    """Whatever lies on our own topics: readers get a message or DecodeError."""
    for kind in (Signal, Rejection, Heartbeat):
        with suppress(DecodeError):
            decode(kind, value)


def metadata(value: bytes) -> None:
    """Whatever a group's commit holds."""
    text = value.decode("utf-8", "replace")
    with suppress(commit_map.UnusableMap):
        found = commit_map.decode(41, text)
        assert len(found.finished) <= commit_map.WIDEST_SPAN
    signed = commit_map.encode(41, sorted({41 + byte for byte in value[:200]}), len(value) % 256)
    if signed:
        assert commit_map.decode(41, signed).finished == {41 + byte for byte in value[:200]}


def entries(value: bytes) -> None:
    """Whatever Redis answers."""
    with suppress(ValueError):
        _CACHE.read("key", value)
    # With a right signature, so that the content is looked at.
    key = blake2b(b"secret").digest()
    signature = blake2b(b"key " + value, key=key, digest_size=16).hexdigest().encode()
    with suppress(ValueError):
        _CACHE.read("key", b"1 0 news.raw/0/1/0 %b %b" % (signature, value))


def instants(value: bytes) -> None:
    """Whatever a feed calls a time."""
    text = value.decode("utf-8", "replace")
    given = [text, text[:40], *_leaves(value)]
    for form in (None, *FEED_FORMS, "%Y%m%dT%H%M%S%z"):
        for each in given[:8]:
            with suppress(ValueError, OverflowError):
                assert isinstance(feed_us(each, form), int)


def names(value: bytes) -> None:
    """Whatever a feed calls a symbol."""
    for text in (value.decode("utf-8", "replace")[:80], *(each for each in _leaves(value) if isinstance(each, str))):
        with suppress(ValueError):
            name = canonical_symbol(text)
            assert canonical_symbol(name) == name


def headers(value: bytes) -> None:
    """Whatever a producer puts into trace headers."""
    middle = len(value) // 2
    carried([("traceparent", value[:middle]), ("tracestate", value[middle:]), ("traceparent", None)])
    for _, passed in carried([("traceparent", value[:55]), ("tracestate", value)]):
        assert passed is not None and passed.isascii()


def vendors(value: bytes) -> None:
    """Every vendor's parser, alone and with a feed's memory: a result for any bytes, and for those of an element."""
    for name in registry.names():
        parse = registry.parser(name)
        found = list(parse(value, NOW_US))
        assert found and len(list(registry.feed_parser(name)(value, NOW_US))) >= len(found)
        assert all(list(parse(parsed.part, NOW_US)) for parsed in found[:3] if parsed.part is not None)


TARGETS: Mapping[str, Target] = {
    each.__name__: each
    for each in (outcomes, token_ids, cleaned, messages, metadata, entries, instants, names, headers, vendors)
}


def _first_record(path: Path) -> bytes:
    """The first record in a table of a vendor's cases."""
    record = json.loads(path.read_text(encoding="utf-8"))[0]["record"]
    return (record if isinstance(record, str) else json.dumps(record)).encode()


_SIGNAL = outcomes_of(Record("news.raw", 0, 7, b"wire:1", written(NEWS), NOW_US), MemorySink())[0]
_PAGE = '"<p>Acme &amp; Bolt <b>cut</b> 12% of jobs</p><script>x</script>"'
_SYMBOLS = '[{"symbol":"ACME","origin":"provider","exchange":"XNAS","relevance":0.5}]'
SEEDS: tuple[bytes, ...] = (
    written(NEWS),
    written(TWEET),
    b"[" + written(NEWS) + b"," + written(TWEET) + b"]",
    written([*NEWS, ("action", '"update"'), ("revision", "3"), ("updated_us", str(NOW_US + 5)), ("lang", '"en"')]),
    written([*NEWS, ("body", _PAGE), ("body_format", '"html"'), ("symbols", _SYMBOLS)]),
    written([*TWEET, ("action", '"delete"'), ("metrics", '{"likes":3}'), ("cashtags", '["$ACME"]')]),
    _SIGNAL.value or b"",
    (commit_map.encode(41, [43, 44, 50], 2) or "").encode(),
    _CACHE.write("key", _FIRST),
    b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    b"rojo=1,congo=t61rcWkgMzE",
    b"2026-11-28T10:00:00.123+01:00",
    b"Sat, 28 Nov 2026 10:00:00 EST",
    b"1770000000.5",
    *(_first_record(path) for path in sorted((ROOT / "tests" / "stream" / "feeds" / "fixtures").glob("*.json"))),
)


def _record(value: bytes) -> Record:
    key = None if len(value) % 3 else value[:40]
    return Record("news.raw", 3, 41, key, value if len(value) % 97 else None, NOW_US, (("traceparent", value[-55:]),))


def _leaves(value: bytes) -> list[object]:
    with suppress(ValueError, RecursionError):
        tree = json.loads(value)
        return list(tree.values()) if isinstance(tree, dict) else tree if isinstance(tree, list) else [tree]
    return []
