"""RSS 2.0, RSS 1.0 and Atom: whole documents, or single items and entries.

EDGAR's Atom has rules of its own. An entry is known by its guid or id. `updated` is its revision; a feed without one
has none, and a changed text is known by what a feed saw (stream.feeds.seen). A time whose zone is not certain is left
out: the text is worth more.
"""

import html
import re
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds.base import Parsed, Refused, Result, Skipped
from earlybird.stream.feeds.frames import MOST_ELEMENTS
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import content_id, known_instant, text
from earlybird.stream.observability.escape import escaped

_TIMES = ("rfc2822", "iso")
_ENTITY = re.compile(rb"&([A-Za-z][A-Za-z0-9]*);")
_OF_XML = {b"amp", b"lt", b"gt", b"quot", b"apos"}
_FEEDS, _ENTRIES = ("rss", "RDF", "feed", "channel"), ("item", "entry")
_OTHERS = ("{http://search.yahoo.com/mrss/}", "{http://www.itunes.com/")  # titles and texts of attachments
_DEEPEST = 100  # levels of elements; ElementTree writes an entry by recursion
_EDGAR = re.compile(r"urn:tag:sec\.gov,\d+:accession-number=\S+")
_CIK = re.compile(r"\((\d{10})\)")
_ABOUT = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}about"


def parse(value: bytes, received_us: int) -> list[Parsed]:
    """Return the results of one record: one per entry of a document."""
    if not value.strip():
        return [Parsed(Skipped("keep_alive"))]
    root = _tree(value)
    if isinstance(root, Refused):
        return [Parsed(root)]
    if _name(root) in _ENTRIES:
        return [Parsed(entry(root, received_us))]
    if _name(root) not in _FEEDS:
        return [Parsed(Refused(Reason.MALFORMED, f"rss, feed or item expected, was {escaped(_name(root), 40)!r}"))]
    entries = [each for each in root.iter() if _name(each) in _ENTRIES]
    if not entries:
        return [Parsed(Skipped("empty"))]
    if len(entries) > MOST_ELEMENTS:
        return [Parsed(Refused(Reason.TOO_LARGE, f"feed: at most {MOST_ELEMENTS:,} entries allowed"))]
    return [Parsed(entry(each, received_us), ET.tostring(each)) for each in entries]


def entry(element: ET.Element, received_us: int) -> Result:
    """Return the item of one item or entry."""
    link, title = _link(element), _text(element, "title")
    updated_us = known_instant(_text(element, "updated") or _text(element, "modified"), *_TIMES)
    published = _text(element, "pubDate") or _text(element, "published") or _text(element, "date")
    published_us, item_id = known_instant(published, *_TIMES), _id(element, link, title)
    terms = [each.get("term") or (each.text or "").strip() for each in _children(element, "category")]
    if item_id is not None and _EDGAR.fullmatch(item_id):
        published_us = published_us or updated_us  # the acceptance of the filing
        if filer := _CIK.search(title or ""):  # a filing comes once per company or person that it names
            item_id = f"{item_id}/{filer[1]}"
            terms.append(f"cik:{filer[1]}")
    return news(
        "rss", item_id, received_us,
        headline=text(title),
        summary=text(_text(element, "description") or _text(element, "summary")),
        body=text(_text(element, "encoded") or _text(element, "content")),
        body_format="html",
        published_us=published_us,
        updated_us=updated_us,
        authors=[name for name in (_author(element),) if name],
        tags=[term for term in terms if term],
        url=link,
        publisher=urlsplit(link).hostname if link and _is_link(link) else None,
    )  # fmt: skip


def _id(element: ET.Element, link: str | None, title: str | None) -> str | None:
    """Return an id that is unique beyond its feed.

    A bare number is preceded by the host of the link.
    """
    found = _text(element, "guid") or _text(element, "id") or element.get(_ABOUT)
    if found is not None and ":" not in found and link is not None and _is_link(link):
        return f"{urlsplit(link).hostname}/{found}"
    if found is not None or link is not None:
        return found or link
    return None if title is None else content_id(title, _text(element, "description"))


def _author(element: ET.Element) -> str | None:
    for each in _children(element, "author", "creator"):
        if name := (_text(each, "name") or "".join(each.itertext()).strip()):
            return name
    return None


def _link(element: ET.Element) -> str | None:
    """Return the link: in Atom an attribute of the alternate link, in RSS a text."""
    links = _children(element, "link")
    for each in links:
        if each.get("href") and each.get("rel", "alternate") == "alternate":
            return each.get("href")
    return next((each.text.strip() for each in links if each.text and each.text.strip()), None)


def _text(element: ET.Element, name: str) -> str | None:
    """Return the text of the first child of this name that has any."""
    for each in _children(element, name):
        if found := "".join(each.itertext()).strip():
            return found
    return None


def _children(element: ET.Element, *names: str) -> list[ET.Element]:
    return [each for each in element if _name(each) in names and not each.tag.startswith(_OTHERS)]


def _name(element: ET.Element) -> str:
    """Return the name without its namespace."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _tree(value: bytes) -> ET.Element | Refused:
    if b"<!ENTITY" in value:  # a few of these can stand for gigabytes
        return Refused(Reason.MALFORMED, "a document that declares entities is not read")
    try:
        root = ET.fromstring(_ENTITY.sub(_numbered, value))
    except (ET.ParseError, ValueError, LookupError) as error:  # the latter two for its encoding
        return Refused(Reason.MALFORMED, f"not XML: {escaped(str(error), 200)}")
    level = [root]
    for _ in range(_DEEPEST):
        level = [child for each in level for child in each]
    return Refused(Reason.MALFORMED, f"nested deeper than {_DEEPEST} elements") if level else root


def _numbered(entity: re.Match[bytes]) -> bytes:
    """Write an entity that HTML knows and XML does not by its number."""
    text = html.unescape(entity[0].decode())
    if entity[1] in _OF_XML or text == entity[0].decode():
        return entity[0]
    return "".join(f"&#{ord(char)};" for char in text).encode()


def _is_link(link: str) -> bool:
    try:
        return bool(urlsplit(link).hostname)
    except ValueError:
        return False
