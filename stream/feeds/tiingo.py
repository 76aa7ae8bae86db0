"""Tiingo's news: arrays of the REST endpoint.

There are no edits and no deletes. `publishedDate` is the publisher's word; an old story may be crawled late.
"""

from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import instant, names, symbols, text


def article(fields: Fields, received_us: int) -> Result:
    """Return the item of one article."""
    if "detail" in fields and "id" not in fields:  # an error
        return Skipped("control")
    return news(
        "tiingo", fields.get("id"), received_us,
        headline=text(fields.get("title")),
        summary=text(fields.get("description")),
        body_format="html",  # descriptions are the publishers'
        published_us=instant(fields.get("publishedDate"), "iso"),
        symbols=symbols(fields.get("tickers"), pairs=True),
        tags=names(fields.get("tags")),
        url=text(fields.get("url")),
        publisher=text(fields.get("source")),
    )  # fmt: skip


parse = json_parser(article)
