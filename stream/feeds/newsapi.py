"""NewsAPI's pages and articles, which have no ids: an article is its link."""

from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser, under
from earlybird.stream.feeds.items import news
from earlybird.stream.feeds.values import instant, mapping, names, text

_REMOVED = "[Removed]"


def article(fields: Fields, received_us: int) -> Result:
    """Return the item of one article."""
    if "status" in fields and "title" not in fields:  # an error
        return Skipped("control")
    if fields.get("title") == _REMOVED:  # its link says no longer which article it was
        return Skipped("removed")
    content = fields.get("content")
    return news(
        "newsapi", fields.get("url"), received_us,
        headline=text(fields.get("title")),
        summary=text(fields.get("description")),
        body=text(_uncut(content) if isinstance(content, str) else content),
        body_format="html",
        published_us=instant(fields.get("publishedAt"), "iso"),
        authors=names(fields.get("author")),
        url=text(fields.get("url")),
        publisher=text(mapping(fields.get("source")).get("name")),
    )  # fmt: skip


def _uncut(content: str) -> str:
    """Return the content without the mark of a cut, as in `… [+3185 chars]`."""
    before, mark, rest = content.rstrip().rpartition("[+")
    if mark and rest.removesuffix(" chars]").isdecimal():
        return before.rstrip().removesuffix("…").rstrip()
    return content


parse = json_parser(article, under("articles"))
