"""StockTwits' streams of messages, with the sentiment that their authors chose."""

from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser, under
from earlybird.stream.feeds.items import tweet
from earlybird.stream.feeds.values import identifier, instant, mapping, sentiment, symbols, text


def message(fields: Fields, received_us: int) -> Result:
    """Return the item of one message."""
    if "response" in fields or "errors" in fields:
        return Skipped("control")
    chosen = mapping(mapping(fields.get("entities")).get("sentiment")).get("basic")
    return tweet(
        "stocktwits", fields.get("id"), received_us,
        text=text(fields.get("body")),
        published_us=instant(fields.get("created_at"), "iso"),
        symbols=symbols(fields.get("symbols")),
        author_id=identifier(mapping(fields.get("user")).get("id")),
        vendor_sentiment=sentiment([chosen]),
    )  # fmt: skip


parse = json_parser(message, under("messages"))
