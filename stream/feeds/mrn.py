"""LSEG's Machine Readable News: stories, alone or in the update message that carries them compressed.

All versions of a story have one `altId`; `takeSequence` counts them. A story that is too long for one message comes in
fragments, which stream.feeds.fragments assembles at a feed; here, where each record stands alone, a fragment is
refused.
"""

import base64
import re
import zlib
from typing import Any, NamedTuple

from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds.base import Fields, Parsed, Refused, Result, Skipped
from earlybird.stream.feeds.frames import decoded, json_parser, under
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import instant, mapping, names, symbols, text, whole
from earlybird.stream.parsing.languages import named_language

LARGEST_STORY = 4 << 20  # bytes after decompression
_GZIP, _GZIP_WINDOW = b"\x1f\x8b", 31
_RETRACTED = ("stat:canceled", "stat:withheld")
_RIC = re.compile(r"R:([^.]+?)([a-z])?(?:\.([A-Z]{1,2}))?")
_UNITED_STATES = {"O": "NASDAQ", "OQ": "NASDAQ", "N": "NYSE", "A": "AMEX", "P": "ARCA", "Z": "BATS", "K": None}
"""Exchange of the RICs of American shares, which trade under the name without this ending."""


class Fragment(NamedTuple):
    """Content of one update message."""

    key: tuple[str, str]  # source and GUID
    number: int  # from 1 on
    content: bytes
    size: int | None  # of the whole story; only the first fragment has it


def message(fields: Fields, received_us: int) -> Result:
    """Return the item of a story, or of the message that holds it."""
    if "Type" not in fields:
        return story(mapping(fields.get("data")) or fields, received_us)  # files of history wrap each story
    fragment = fragment_of(fields)
    if not isinstance(fragment, Fragment):
        return fragment
    if fragment.number != 1 or fragment.size != len(fragment.content):
        detail = f"fragment {fragment.number} of a story; fragments are assembled at the feed"
        return Refused(Reason.MALFORMED, detail)
    return unpacked(fragment.content, received_us)


def fragment_of(fields: Fields) -> Fragment | Skipped | Refused:
    """Return the fragment in a message of the stream."""
    content = mapping(fields.get("Fields"))
    if fields.get("Type") != "Update" or content.get("FRAGMENT") is None:  # Ping, Status, Refresh
        return Skipped("control")
    if content.get("MRN_TYPE") != "STORY":  # analytics
        return Skipped("other_kind")
    number, size = whole(content.get("FRAG_NUM")), whole(content.get("TOT_SIZE"))
    guid, source, encoded = content.get("GUID"), content.get("MRN_SRC"), content["FRAGMENT"]
    if number is None or not (isinstance(guid, str) and isinstance(source, str) and isinstance(encoded, str)):
        return Refused(Reason.MALFORMED, "FRAG_NUM, GUID, MRN_SRC and FRAGMENT are read together")
    try:
        return Fragment((source, guid), number, base64.b64decode(encoded, validate=True), size if number == 1 else None)
    except ValueError:
        return Refused(Reason.MALFORMED, "FRAGMENT is not base64")


def unpacked(packed: bytes, received_us: int) -> Result:
    """Return the item of a compressed story."""
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    try:
        content = unpacker.decompress(packed, LARGEST_STORY)
    except zlib.error as error:
        return Refused(Reason.MALFORMED, f"not gzip: {error}")
    if not unpacker.eof:
        reason = Reason.TOO_LARGE if len(content) == LARGEST_STORY else Reason.MALFORMED
        return Refused(reason, f"a story without its end after {len(content):,} bytes")
    fields = decoded(content)
    return fields if isinstance(fields, Refused) else story(fields, received_us)


def story(fields: Fields, received_us: int) -> Result:
    """Return the item of a story."""
    take = whole(fields.get("takeSequence"))
    updated = "update" if take is not None and take > 1 else "create"
    subjects, language = names(fields.get("subjects")), fields.get("language")
    return news(
        "mrn", fields.get("altId") or fields.get("id"), received_us,
        action="delete" if fields.get("pubStatus") in _RETRACTED else updated,
        revision=take,
        headline=text(fields.get("headline")),
        body=text(fields.get("body")),
        body_format="html" if "html" in str(fields.get("mimeType")) else "text",
        published_us=instant(fields.get("firstCreated"), "iso"),
        updated_us=instant(fields.get("versionCreated"), "iso"),
        lang=named_language(language) if isinstance(language, str) else None,
        symbols=symbols([_instrument(code) for code in subjects if code.startswith("R:")]),
        channels=names(fields.get("audiences")),
        tags=[code for code in subjects if not code.startswith("R:")],
        publisher=text(fields.get("provider")),
    )  # fmt: skip


def _instrument(code: str) -> dict[str, Any]:
    """Return name and exchange of a RIC; others than American ones keep their ending."""
    ric = _RIC.fullmatch(code)
    if ric is None or (ric[3] is not None and ric[3] not in _UNITED_STATES):
        return {"symbol": code.removeprefix("R:")}
    name = ric[1] if ric[2] is None else f"{ric[1]}.{ric[2]}"  # BRKb: class B
    return {"symbol": name, "exchange": _UNITED_STATES.get(ric[3] or "")}


def parse(value: bytes, received_us: int) -> list[Parsed]:
    """Return the results of one record: story, gzipped story, message or frame."""
    if value.startswith(_GZIP):
        return [Parsed(unpacked(value, received_us))]
    return list(_json(value, received_us))


_json = json_parser(message, under("Items"))
