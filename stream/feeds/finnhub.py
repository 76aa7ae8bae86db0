"""Finnhub's news: arrays of the REST endpoints, messages of the stream.

There are no edits and no deletes. One story may come under several ids, once per company.
"""

from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser, under
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import instant, names, symbols, text


def article(fields: Fields, received_us: int) -> Result:
    """Return the item of one article."""
    if "type" in fields or "error" in fields:  # ping, error, messages of other streams
        return Skipped("control")
    return news(
        "finnhub", fields.get("id"), received_us,
        headline=text(fields.get("headline")),
        summary=text(fields.get("summary")),
        published_us=instant(fields.get("datetime") or None, "s", "ms"),  # 0: unknown; the stream's are in ms
        symbols=symbols(fields.get("related")),
        channels=names(fields.get("category")),
        url=text(fields.get("url")),
        publisher=text(fields.get("source")),
    )  # fmt: skip


parse = json_parser(article, under("data"))
