"""X's posts, API v2.

Messages of the filtered stream, pages of the search, events of the compliance stream.

An edit is a new post whose history lists the earlier ones, oldest first; all of them are one item, which has the first
one's id. Its revision is the place in that history.
"""

from typing import Any

from earlybird.stream.feeds.base import Fields, Result, Skipped
from earlybird.stream.feeds.frames import json_parser
from earlybird.stream.feeds.items import tweet
from earlybird.stream.feeds.values import identifier, instant, mapping, text, whole
from earlybird.stream.parsing.languages import named_language

_GONE = ("delete", "drop")  # drop: no longer shown to the public
_REFERENCES = ("retweeted", "quoted", "replied_to")
_MOST_TAGS = 512


def message(fields: Fields, received_us: int) -> Result:
    """Return the item of one message: a post, or the deletion of one."""
    data = mapping(fields.get("data")) or fields
    for event in _GONE:
        if event in data:
            gone = mapping(data[event])
            item_id, at_us = mapping(gone.get("tweet")).get("id"), instant(gone.get("event_at"), "iso")
            return tweet("x", item_id, received_us, action="delete", updated_us=at_us)
    if not data.keys() & {"id", "text"}:  # errors, tweet_edit, withheld, undrop, events of users
        return Skipped("control")
    return post(data, mapping(fields.get("includes")), received_us)


def post(data: Fields, includes: Fields, received_us: int) -> Result:
    """Return the item of a post."""
    post_id = identifier(data.get("id"))
    history = [each for each in _list(data.get("edit_history_tweet_ids")) if isinstance(each, str)]
    revision = history.index(post_id) if post_id in history else None
    tags = [mapping(data.get("entities")), mapping(mapping(data.get("note_tweet")).get("entities"))]
    references = [mapping(each) for each in _list(data.get("referenced_tweets"))]
    reference = next((each for each in references if each.get("type") in _REFERENCES), {})
    lang = data.get("lang")
    return tweet(
        "x", history[0] if revision is not None else post_id, received_us,
        action="update" if revision else "create",
        revision=revision,
        text=text(_repeated(reference, includes) or _whole_text(data)),
        published_us=instant(data.get("created_at"), "iso"),
        lang=named_language(lang) if isinstance(lang, str) else None,
        author_id=identifier(data.get("author_id")),
        conversation_id=identifier(data.get("conversation_id")),
        ref={"type": reference["type"], "id": reference["id"]} if isinstance(reference.get("id"), str) else None,
        cashtags=_tags(tags, "cashtags", "tag"),
        hashtags=_tags(tags, "hashtags", "tag"),
        urls=_tags(tags, "urls", "expanded_url"),
        metrics=_counts(mapping(data.get("public_metrics"))) or None,
    )  # fmt: skip


def messages(fields: Fields) -> list[Any] | None:
    """Return the posts of a search page, each with the posts that it refers to."""
    posts = fields.get("data")
    if not isinstance(posts, list):
        return [] if mapping(fields.get("meta")).get("result_count") == 0 else None
    known = {each["id"]: each for each in _list(mapping(fields.get("includes")).get("tweets")) if _has_id(each)}
    found = []
    for each in posts:
        ids = [mapping(reference).get("id") for reference in _list(mapping(each).get("referenced_tweets"))]
        others = [known[other] for other in ids if isinstance(other, str) and other in known]
        found.append({"data": each, "includes": {"tweets": others}} if isinstance(each, dict) else each)
    return found


def _whole_text(data: Fields) -> object:
    """Return the text of a post; `text` is cut in a long one."""
    return mapping(data.get("note_tweet")).get("text") or data.get("text")


def _repeated(reference: Fields, includes: Fields) -> object:
    """Return the text of the reposted post, None if this is no repost."""
    if reference.get("type") != "retweeted":
        return None
    known = (each for each in _list(includes.get("tweets")) if _has_id(each))
    return next((_whole_text(each) for each in known if each["id"] == reference.get("id")), None)


def _tags(entities: list[Fields], name: str, key: str) -> list[str]:
    found = [mapping(each).get(key) for known in entities for each in _list(known.get(name))]
    return list(dict.fromkeys(tag for tag in found if isinstance(tag, str) and tag))[:_MOST_TAGS]


def _counts(given: Fields) -> dict[str, Any]:
    return {name: count for name, count in given.items() if whole(count) is not None}


def _list(given: object) -> list[Any]:
    return given if isinstance(given, list) else []


def _has_id(given: object) -> bool:
    return isinstance(mapping(given).get("id"), str)


parse = json_parser(message, messages)
