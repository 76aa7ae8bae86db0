"""Alpaca's news: frames of the stream (v1beta1/news), pages and articles of the REST endpoint.

`updated_at` is often a second after `created_at` on first sight, so it makes no update by itself; it is the revision.
"""

from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser, under
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import instant, names, symbols, text


def article(message: Fields, received_us: int) -> Result:
    """Return the item of one message of type n, or of one REST article."""
    if message.get("T", "n") != "n":  # success, subscription, error
        return Skipped("control")
    return news(
        "alpaca", message.get("id"), received_us,
        headline=text(message.get("headline")),
        summary=text(message.get("summary")),
        body=text(message.get("content")),
        body_format="html",
        published_us=instant(message.get("created_at"), "iso"),
        updated_us=instant(message.get("updated_at"), "iso"),
        symbols=symbols(message.get("symbols"), pairs=True),
        authors=names(message.get("author")),
        url=text(message.get("url")),
        publisher=text(message.get("source")),
    )  # fmt: skip


parse = json_parser(article, under("news", unless="T"))  # a subscription lists its symbols under `news`
