"""Benzinga's news.

Messages of the stream and of webhooks, pages and articles of REST v2, and its list of removals.
"""

from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser, under
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import Unusable, instant, mapping, names, symbols, text
from earlybird.stream.parsing.validation import quoted

_ACTIONS = {"created": "create", "updated": "update", "deleted": "delete", "removed": "delete"}
_TIMES = ("rfc2822", "iso")  # REST and the stream; webhooks


def message(fields: Fields, received_us: int) -> Result:
    """Return the item of one message, or of one REST article."""
    if "data" not in fields and "id" not in fields:  # status of the connection
        return Skipped("control")
    if "data" not in fields:
        return article(fields, fields.get("id"), _removal(fields), received_us)
    if not str(fields.get("kind", "news")).lower().startswith("news"):  # ratings, earnings, ...
        return Skipped("other_kind")
    data = mapping(fields["data"])
    content, word = mapping(data.get("content")), data.get("action")
    action = _ACTIONS.get(str(word).lower()) or Unusable(
        Reason.MALFORMED, f"one of {', '.join(_ACTIONS)} read, was {quoted(word)}"
    )
    return article(content, content.get("id") or data.get("id"), action, received_us)


def article(content: Fields, item_id: object, action: str | Unusable, received_us: int) -> Result:
    """Return the item of an article's content."""
    return news(
        "benzinga", item_id, received_us,
        action=action,
        headline=text(content.get("title")),
        summary=text(content.get("teaser")),
        body=text(content.get("body")),
        body_format="html",
        published_us=instant(content.get("created") or content.get("created_at"), *_TIMES),
        updated_us=instant(content.get("updated") or content.get("updated_at"), *_TIMES),
        symbols=symbols(content.get("stocks") or content.get("securities")),
        authors=names(content.get("author") or content.get("authors")),
        channels=names(content.get("channels")),
        tags=names(content.get("tags")),
        url=text(content.get("url")),
    )  # fmt: skip


def _removal(fields: Fields) -> str:
    """Return the action of a REST element; a removal has id and time alone."""
    return "create" if "title" in fields or "created" in fields else "delete"


parse = json_parser(message, under("news", "removed"))
