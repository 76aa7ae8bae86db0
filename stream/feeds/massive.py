"""Massive's news (Polygon until 2025): pages and articles of v2/reference/news and of its Benzinga endpoint.

There are no edits and no deletes. `insights` say what the vendor's own model thinks; their mean is `vendor_sentiment`.
"""

from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser, under
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import instant, mapping, names, sentiment, symbols, text


def article(fields: Fields, received_us: int) -> Result:
    """Return the item of one article."""
    if not fields.keys() & {"id", "benzinga_id"}:  # status, error
        return Skipped("control")
    insights = fields.get("insights")
    return news(
        "massive", fields.get("benzinga_id") or fields.get("id"), received_us,
        headline=text(fields.get("title")),
        summary=text(fields.get("description") or fields.get("teaser")),
        body=text(fields.get("body")),
        body_format="html",
        published_us=instant(fields.get("published_utc") or fields.get("published"), "iso"),
        updated_us=instant(fields.get("last_updated"), "iso"),
        symbols=symbols(fields.get("tickers")),
        authors=names(fields.get("author")),
        channels=names(fields.get("channels")),
        tags=names(fields.get("keywords") or fields.get("tags")),
        url=text(fields.get("article_url") or fields.get("url")),
        publisher=text(mapping(fields.get("publisher")).get("name")),
        vendor_sentiment=sentiment(
            mapping(each).get("sentiment") for each in (insights if isinstance(insights, list) else [])
        ),
    )  # fmt: skip


parse = json_parser(article, under("results"))
