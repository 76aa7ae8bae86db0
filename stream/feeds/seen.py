"""Edits known by what a feed has seen, with bounded memory.

Many vendors send an edited article like a new one. At the feed, where records come one after the other, a second
version of a known item is an update, and one that was seen before is skipped. The stage keeps no such memory: there the
revisions decide (schemas.order).
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator

from earlybird.schemas.raw import Action, RawNews, RawTweet
from earlybird.stream.feeds.base import Parsed, Parser, Refused, Skipped
from earlybird.stream.feeds.items import deletion

MOST_ITEMS = 100_000
"""Items remembered, about 30 MB of them; the one not seen for longest is forgotten."""


class FeedParser:
    """Parser of one feed, from its first record to its last. Not thread-safe.

    A record whose result is Skipped("fragment") is held until its story is complete, by a parser with `held` and
    `rest`. While `held` is not 0, a feed that acknowledges or notes where to resume must not go beyond the last point
    at which it was 0: fragments held at a crash have to be read again.
    """

    def __init__(self, parse: Parser, most: int = MOST_ITEMS) -> None:
        self._parse, self._most = parse, most
        self._seen: OrderedDict[str, tuple[int, bytes]] = OrderedDict()  # item_key -> revision, hash of the content

    def __call__(self, value: bytes, received_us: int) -> Iterator[Parsed]:
        """Yield the results of one record; a known item's newer version is an update."""
        for parsed in self._parse(value, received_us):
            yield from self._known(parsed, received_us)

    @property
    def held(self) -> int:
        """Number of records whose content waits for more."""
        return getattr(self._parse, "held", 0)

    def rest(self) -> list[Parsed]:
        """Return a refusal for each story that was never completed, at the feed's end."""
        rest = getattr(self._parse, "rest", None)
        return [] if rest is None else list(rest())

    def _known(self, parsed: Parsed, received_us: int) -> Iterator[Parsed]:
        match parsed.result:
            case RawNews() | RawTweet() as item:
                yield Parsed(self._versioned(item), parsed.part)
            case Refused(fields=fields):
                yield parsed
                if self._seen.pop(str(fields.get("item_key")), None):  # its text was replaced by one we cannot read
                    yield Parsed(deletion(fields, received_us))
            case _:
                yield parsed

    def _versioned(self, item: RawNews | RawTweet) -> RawNews | RawTweet | Skipped:
        key = item.item_key
        if item.action is Action.DELETE:
            self._seen.pop(key, None)
            return item
        revision, content = item.effective_revision, _content(item)
        known = self._seen.get(key)
        if known is not None and known[1] == content:
            self._seen.move_to_end(key)
            return Skipped("repeated")
        if known is not None and revision < known[0]:
            return item  # an older version that comes late
        self._seen[key] = (revision, content)
        self._seen.move_to_end(key)
        if len(self._seen) > self._most:
            self._seen.popitem(last=False)
        return item if known is None else item.model_copy(update={"action": Action.UPDATE})


def _content(item: RawNews | RawTweet) -> bytes:
    told = item.model_dump_json(exclude={"ingested_us", "action", "metrics"})  # likes change, texts do not
    return hashlib.blake2b(told.encode(), digest_size=16).digest()
