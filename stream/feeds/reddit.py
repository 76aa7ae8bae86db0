"""Reddit's listings, posts (t3) and comments (t1), as posts with one text.

`edited` is false or the time of the last edit. A deleted text reads [deleted] or [removed].
"""

from typing import Any

from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser
from earlybird.stream.feeds.items import tweet
from earlybird.stream.feeds.values import identifier, instant, mapping, text, whole

_KINDS = ("t1", "t3")
_GONE = ("[deleted]", "[removed]")


def thing(fields: Fields, received_us: int) -> Result:
    """Return the item of one post or comment, with its kind around it or bare."""
    kind = fields.get("kind")
    if "error" in fields or (kind is not None and kind not in _KINDS):  # errors; more, users, subreddits
        return Skipped("control")
    data = mapping(fields.get("data")) or fields
    name = data.get("name") or (f"{kind}_{data['id']}" if kind and data.get("id") else data.get("id"))
    texts = [data.get(part) for part in ("title", "selftext", "body")]
    gone = any(each in _GONE for each in texts)
    told = [each for each in texts if isinstance(each, str) and each.strip()]
    edited_us = instant(data.get("edited"), "s")
    return tweet(
        "reddit", name, received_us,
        action="delete" if gone else "create" if edited_us is None else "update",
        text=None if gone else text("\n\n".join(told)),
        published_us=instant(data.get("created_utc"), "s"),
        updated_us=edited_us,
        author_id=identifier(data.get("author_fullname") or data.get("author")),
        metrics={key: data[key] for key in ("score", "num_comments") if whole(data.get(key)) is not None} or None,
    )  # fmt: skip


def things(fields: Fields) -> list[Any] | None:
    """Return the posts or comments of a listing."""
    children = mapping(fields.get("data")).get("children")
    return children if fields.get("kind") == "Listing" and isinstance(children, list) else None


parse = json_parser(thing, things)
