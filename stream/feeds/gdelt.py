"""GDELT's article lists, DOC API: titles and links, without texts, ids or symbols."""

from earlybird.stream.feeds.base import Fields, Result
from earlybird.stream.feeds.frames import json_parser, under
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import instant, text
from earlybird.stream.parsing.languages import named_language


def article(fields: Fields, received_us: int) -> Result:
    """Return the item of one article."""
    language = fields.get("language")
    return news(
        "gdelt", fields.get("url"), received_us,
        headline=text(fields.get("title")),
        published_us=instant(fields.get("seendate"), "iso"),
        lang=named_language(language) if isinstance(language, str) else None,
        url=text(fields.get("url")),
        publisher=text(fields.get("domain")),
    )  # fmt: skip


parse = json_parser(article, under("articles"))
