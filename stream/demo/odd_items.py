"""Table of the demo feed's odd items and their expected outcomes.

Everything that a real feed does to a consumer happens once: copies, retweets, corrections, deletions, foreign text,
garbage. The table is also the pipeline's golden test. Outcomes hold for the bundled model's text profile (natural-v3:
case, white space, links, handles and RT marks do not count; agency prefixes do). A `hit` must have the result of the
text that it repeats; whether the cache answers it or the model computes it again depends on timing.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from earlybird.schemas.raw import RawItem
from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import Label

Outcome = Literal["signal", "duplicate", "correct", "retract", "dead letter"]
Find = Callable[[str], RawItem]

WORDS_OF_A_LONG_BODY = 5_000
_PLANT = "Norvex said its second plant runs at full capacity and that customers have paid in advance. "


@dataclass(frozen=True, slots=True)
class Odd:
    """One odd record and its outcome.

    `at_s` is its time in the feed, in seconds after the first item. `of` is the item_key of the item that a duplicate
    repeats. A dead letter that names its item also retracts it (`also_retracts`). `label` is set where the sentiment is
    beyond doubt. `damaged` records look like a display fault unless the screen says that they are sent on purpose.
    """

    name: str
    at_s: float
    topic: str
    key: str | None
    value: bytes | None
    outcome: Outcome
    reason: Reason | None = None
    of: str | None = None
    truncated: bool = False
    also_retracts: bool = False
    label: Label | None = None
    damaged: bool = False


def odd_items(find: Find, start_us: int) -> list[Odd]:
    """Return the table in time order.

    `find` returns a normal item by its headline or text, `start_us` is the first item's ingested_us.
    """
    build = _Builder(find, start_us)
    odd = [*_copies(build), *_revisions(build), *_strange_texts(build), *_rubbish(build)]
    return sorted(odd, key=lambda one: one.at_s)


def _copies(build: "_Builder") -> list[Odd]:
    """Return repeated texts, in the variants in which feeds repeat them."""
    syndicated = (
        (14.1, "Ordane Motors recalls 61,000 vans over faulty brakes"),
        (16.3, "Norvex raises full-year revenue outlook to $4.2 bln from $3.9 bln"),
        (17.0, "Pelluxa Mining shuts Corvada copper mine after tunnel wall collapse"),
        (61.6, "Norvex Q1 adjusted EPS $1.42 beats $1.19 expected"),
        (62.0, "Norvex Q1 revenue $1.08 bln, up 24 pct from a year ago"),
        (63.9, "Norvex shares jump 13 pct to all-time high"),
        (64.4, "Norvex to buy back shares worth $500 mln"),
        (121.9, "Telmaris Pharma heart drug fails to meet main goal in late-stage trial"),
        (122.3, "Telmaris halts TL-204 programme after failed trial"),
        (123.0, "Telmaris Pharma shares plunge 58 pct after trial failure"),
        (181.6, "Central bank surprises with rate rise of 25 basis points, stocks fall"),
        (182.9, "Homebuilders fall sharply after unexpected rate rise"),
    )
    retweeted = (
        (62.7, "$NRVX EPS 1.42 vs 1.19!!! HUGE beat"),
        (63.1, "$NRVX beats on top and bottom line"),
        (122.0, "BREAKING $TLMR TL-204 misses primary endpoint"),
        (122.6, "Ugh. $TLMR phase 3 failed badly"),
        (124.2, "Got crushed in $TLMR today. Be careful out there."),
        (182.5, "Whoa, they hiked. Nobody had that. Banks up, builders down $FNTR $LMBR"),
    )
    beat, wire = "$NRVX EPS 1.42 vs 1.19!!! HUGE beat", "Norvex Q1 adjusted EPS $1.42 beats $1.19 expected"
    return [
        *(build.copy(f"syndicated-{n}", at_s, text) for n, (at_s, text) in enumerate(syndicated, 1)),
        *(build.retweet(f"retweet-{n}", at_s, text) for n, (at_s, text) in enumerate(retweeted, 1)),
        build.retweet("retweet-of-a-retweet", 65.0, beat, f"RT @semis_sue: RT @chipwatcher: {beat}", "signal"),
        build.retweet("retweet-of-a-duplicate", 65.6, wire, f"RT @cityflash: {wire}"),
        build.copy("copy-in-capitals", 63.3, wire, wire.upper()),
        build.copy("copy-with-white-space", 63.5, wire, f"  {wire.replace(' ', '  ')}\n\n"),
        build.copy("copy-with-entities", 63.6, wire, wire.replace("$", "&#36;")),
        build.copy("tweet-of-a-headline-with-link", 64.1, wire, f"{wire} https://t.example/x1", kind="tweet"),
        build.copy("near-copy", 64.6, wire, wire.replace("expected", "forecast"), outcome="signal"),
        build.copy("agency-prefix", 64.8, wire, f"HALFORD (MWN) - {wire}", outcome="signal"),
        build.copy("numbered-update", 65.2, wire, f"UPDATE 1-{wire}", outcome="signal"),
    ]


def _revisions(build: "_Builder") -> list[Odd]:
    """Return changes that sources make to items they sent before."""
    profit = "Haligon Energy quarterly profit falls 38 pct on lower gas prices"
    fine = "Regulator fines Aquatelle Utilities $18 mln over sewage spills"
    breach = "$QVST breached. Support tickets leaked. Yikes."
    latecomer = "anyone still on the $NRVX call?"
    joke = "a fine of 18 million is a joke, dumping $AQTL like they dump sewage"
    return [
        build.update("correction", 30.0, profit, headline=profit.replace("38", "28")),
        build.update("second-correction", 36.0, profit, headline=profit.replace("38", "27.5")),
        build.update("correction-of-a-tweet", 44.0, joke, text=joke.replace("18 million", "18 million pounds")),
        build.update("correction-of-nothing", 50.0, fine),
        build.update("correction-to-nothing", 115.0, breach, text="  ", refused=True),
        build.delete("deletion", 75.0, latecomer),
        build.delete(
            "deletion-as-null",
            150.0,
            "$TLMR puts paid off, the stock is in ruins. I feel bad. A little.",
            as_null=True,
        ),
    ]


def _strange_texts(build: "_Builder") -> list[Odd]:
    """Return texts that are odd but readable."""
    table = "<table><tr><td>Sales</td><td>+14&nbsp;%</td></tr></table><script>track('x')</script>"
    body = (_PLANT * WORDS_OF_A_LONG_BODY)[: len(_PLANT) * (WORDS_OF_A_LONG_BODY // len(_PLANT.split()))]
    return [
        build.news("html", 20.5, "Kelvara Chips reports strong sales", body=f"<p>Sales <b>rose</b>.</p>{table}",
                   body_format="html", label=Label.POSITIVE),
        build.tweet("emoji", 21.7, "$NRVX to the moon 🚀🚀🚀 best chip maker on earth 💎🙌", label=Label.POSITIVE),
        build.news("mojibake", 23.4, "Fentrow Bankâ€™s profit rises to â‚¬310 mln", label=Label.POSITIVE, damaged=True),
        build.news("long-body", 68.5, "Norvex says second plant runs at full capacity", body=body, truncated=True),
        build.tweet("nul-characters", 71.0, "Bought\x00 more $KLVR today,\x00 great quarter", label=Label.POSITIVE),
        build.tweet("right-to-left", 77.0, "\u202e$SKYR strong quarter\u202c, bookings up", label=Label.POSITIVE),
        build.tweet("language-unknown", 79.0, "$ORDN recall widens, not good", lang=None),
        build.news("field-of-tomorrow", 85.0, "Brackwater Foods sales in line with forecasts", mood_ring="teal"),
    ]  # fmt: skip


def _rubbish(build: "_Builder") -> list[Odd]:
    """Return unreadable records, each with its reason."""
    whole = build.fields("news", "rubbish", 0.0, headline="Norvex opens office in Porto")
    missing = {name: value for name, value in whole.items() if name != "ingested_us"}
    return [
        build.tweet("empty-text", 26.0, "   ", reason=Reason.EMPTY_TEXT),
        build.tweet("nothing-but-a-link", 33.0, "https://t.example/abc", reason=Reason.EMPTY_TEXT),
        build.news("german", 40.0, "Veltheim Industrial streicht 900 Stellen", lang="de", reason=Reason.LANGUAGE),
        build.tweet("portuguese", 72.0, "Porto a Tallinn todos os dias! $SKYR", lang="pt-PT", reason=Reason.LANGUAGE),
        build.news("seconds-for-microseconds", 47.0, "Zenlo Retail opens store", published_us=1_773_322_200,
                   reason=Reason.BAD_TIME),
        build.news("schema-of-tomorrow", 55.0, "Ordane Motors hires", schema_version="9.0",
                   reason=Reason.UNSUPPORTED_SCHEMA),
        build.raw("number-for-text", 58.0, json.dumps(whole | {"headline": 42}).encode(), Reason.MALFORMED),
        build.raw("no-ingest-time", 80.0, json.dumps(missing).encode(), Reason.MISSING_FIELD),
        build.raw("broken-json", 82.0, json.dumps(whole).encode()[:-9], Reason.MALFORMED),
        build.raw("not-utf-8", 83.0, b'{"headline": "\xff\xfe"}', Reason.MALFORMED),
        build.raw("not-json", 130.0, b"HEARTBEAT OK", Reason.MALFORMED),
        build.raw("no-bytes", 131.0, b"", Reason.MALFORMED),
        build.raw("lone-surrogate", 133.0, json.dumps(whole | {"headline": "\ud83d gains"}).encode(), Reason.MALFORMED),
        build.raw("other-object", 186.0, b'{"price": 101.5, "symbol": "NRVX"}', Reason.MISSING_FIELD),
    ]  # fmt: skip


class _Builder:
    """Builder of records; each has its own id unless it revises an item."""

    def __init__(self, find: Find, start_us: int) -> None:
        self._find, self._start_us = find, start_us

    def news(self, name: str, at_s: float, headline: str, *, truncated: bool = False, **more: Any) -> Odd:
        """Return a news item; with `reason` it becomes a dead letter."""
        return self._item("news", name, at_s, {"headline": headline} | more, truncated=truncated)

    def tweet(self, name: str, at_s: float, text: str, **more: Any) -> Odd:
        """Return a tweet; with `reason` it becomes a dead letter."""
        return self._item("tweet", name, at_s, {"text": text} | more)

    def copy(
        self, name: str, at_s: float, original: str, text: str | None = None, *,
        kind: Literal["news", "tweet"] = "news", outcome: Outcome = "duplicate",
    ) -> Odd:  # fmt: skip
        """Return a repetition of `original` by another source, possibly spelt differently."""
        first = self._find(original)
        said: dict[str, Any] = {"headline" if kind == "news" else "text": original if text is None else text}
        if text is None and getattr(first, "summary", None):
            said["summary"] = first.summary  # type: ignore[attr-defined]
        said["symbols"] = [symbol.model_dump(mode="json", exclude_none=True) for symbol in first.symbols]
        of = first.item_key if outcome == "duplicate" else None
        return self._item(kind, name, at_s, said, outcome=outcome, of=of, source="cityflash")

    def retweet(
        self, name: str, at_s: float, original: str, text: str | None = None, outcome: Outcome = "duplicate"
    ) -> Odd:
        """Return a retweet of a post."""
        first = self._find(original)
        fields = {
            "text": text or f"RT @{first.author_id}: {original}",  # type: ignore[attr-defined]
            "ref": {"type": "retweeted", "id": first.source_item_id},
            "symbols": [symbol.model_dump(mode="json", exclude_none=True) for symbol in first.symbols],
        }
        of = first.item_key if outcome == "duplicate" else None
        return self._item("tweet", name, at_s, fields, outcome=outcome, of=of)

    def update(self, name: str, at_s: float, original: str, *, refused: bool = False, **changed: Any) -> Odd:
        """Return an update of an item by its source.

        An item does not repeat itself: an update with the same text has no `of`.
        """
        fields = self._again(original, at_s) | {"action": "update"} | changed
        return Odd(
            name, at_s, _topic(fields), fields["item_key"], _json(fields), "dead letter" if refused else "correct",
            reason=Reason.EMPTY_TEXT if refused else None, also_retracts=refused, damaged=refused,
        )  # fmt: skip

    def delete(self, name: str, at_s: float, original: str, *, as_null: bool = False) -> Odd:
        """Return a deletion: an action, or a null record under the item's key."""
        fields = self._again(original, at_s) | {"action": "delete", "text": None}
        return Odd(name, at_s, _topic(fields), fields["item_key"], None if as_null else _json(fields), "retract")

    def raw(self, name: str, at_s: float, value: bytes, reason: Reason) -> Odd:
        """Return a record of bytes that are no item."""
        named = _names_its_item(value)
        return Odd(name, at_s, "news.raw", None, value, "dead letter", reason=reason, also_retracts=named, damaged=True)

    def fields(self, kind: str, name: str, at_s: float, source: str | None = None, **more: Any) -> dict[str, Any]:
        """Return the fields of a complete item."""
        at_us, source = (
            self._start_us + round(at_s * 1e6),
            source or ("chatter" if kind == "tweet" else "meridian-wire"),
        )
        whole = {
            "schema_version": "1.0", "item_type": kind, "item_key": f"{source}:{name}", "source": source,
            "source_item_id": name, "published_us": at_us - 400_000, "ingested_us": at_us, "lang": "en",
        }  # fmt: skip
        return whole | more

    def _item(
        self, kind: str, name: str, at_s: float, said: Mapping[str, Any], *, outcome: Outcome = "signal",
        of: str | None = None, source: str | None = None, truncated: bool = False,
    ) -> Odd:  # fmt: skip
        reason, label, damaged = said.get("reason"), said.get("label"), said.get("damaged", False)
        tagged = {"symbols": _symbols(said), **said}
        fields = self.fields(kind, name, at_s, source, **{key: tagged[key] for key in tagged if key not in _OURS})
        return Odd(
            name, at_s, _topic(fields), fields["item_key"], _json(fields), "dead letter" if reason else outcome, reason,
            of, truncated, also_retracts=reason is not None, label=label, damaged=damaged or reason is not None,
        )  # fmt: skip

    def _again(self, original: str, at_s: float) -> dict[str, Any]:
        at_us = self._start_us + round(at_s * 1e6)
        fields = self._find(original).model_dump(mode="json", exclude_none=True)
        return fields | {"updated_us": at_us - 400_000, "ingested_us": at_us}


_TICKERS = {"Kelvara": "KLVR", "Fentrow": "FNTR", "Norvex": "NRVX", "Brackwater": "BRKW"}


def _symbols(said: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the company at the start of a headline, or the cashtags of a post."""
    if company := _TICKERS.get(said.get("headline", "").partition(" ")[0]):
        return [{"symbol": company, "origin": "provider"}]
    return [{"symbol": tag, "origin": "cashtag"} for tag in re.findall(r"\$([A-Z]{4})\b", said.get("text", ""))]


_OURS = frozenset({"reason", "label", "damaged"})  # columns of the table that are no fields of the item


def _topic(fields: Mapping[str, Any]) -> str:
    return "tweets.raw" if fields["item_type"] == "tweet" else "news.raw"


def _names_its_item(value: bytes) -> bool:
    try:
        return "item_key" in json.loads(value)
    except ValueError:
        return False


def _json(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()
