"""Raw items from a vendor's values, or the reason why there is none."""

from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from earlybird.schemas.raw import RAW, Action, RawNews, RawTweet
from earlybird.schemas.rejection import Reason
from earlybird.stream.feeds.base import Fields, Refused
from earlybird.stream.feeds.values import Unusable, identifier
from earlybird.stream.parsing.validation import explain

_TEXTS = ("headline", "summary", "body", "text")
_IDENTITY = ("item_key", "source", "source_item_id", "item_type")
_VERSION = ("revision", "updated_us", "published_us")


def news(source: str, item_id: object, received_us: int, /, **fields: Any) -> RawNews | RawTweet | Refused:
    """Return the news item of a source with this id; absent fields may be None."""
    return _item({"item_type": "news", "source": source, "source_item_id": identifier(item_id), **fields}, received_us)


def tweet(source: str, item_id: object, received_us: int, /, **fields: Any) -> RawNews | RawTweet | Refused:
    """Return the post of a source with this id; absent fields may be None."""
    return _item({"item_type": "tweet", "source": source, "source_item_id": identifier(item_id), **fields}, received_us)


def deletion(fields: Fields, received_us: int) -> RawNews | RawTweet:
    """Return the delete of an item of which these fields are known.

    Those that name it are among them.
    """
    identity = {name: fields[name] for name in _IDENTITY}
    version = {name: fields[name] for name in _VERSION if name in fields}
    try:
        return _deleted(identity | version, received_us)
    except ValidationError:  # a revision or time that made the item unreadable
        return _deleted(identity, received_us)


def _deleted(fields: dict[str, Any], received_us: int) -> RawNews | RawTweet:
    return RAW.validate_json(to_json(_received(fields, received_us) | {"action": "delete"}))


def _item(fields: dict[str, Any], received_us: int) -> RawNews | RawTweet | Refused:
    known = {name: value for name, value in fields.items() if value is not None and not isinstance(value, Unusable)}
    if "source_item_id" not in known:
        return Refused(Reason.MISSING_FIELD, "it has no id")
    known = _received(known | {"item_key": f"{known['source']}:{known['source_item_id']}"}, received_us)
    for name, value in fields.items():
        if isinstance(value, Unusable):
            # Kept by its name: a revision that cannot be read is comparable with none.
            return Refused(value.reason, f"{name}: {value.detail}", known | {name: value.detail})
    value = to_json(known)
    try:
        item = RAW.validate_json(value)
    except ValidationError as error:
        return Refused(*explain(error, value, known), known)
    if item.action is not Action.DELETE and not any(str(known.get(name, "")).strip() for name in _TEXTS):
        return Refused(Reason.EMPTY_TEXT, "it has no text", known)
    return item


def _received(fields: dict[str, Any], received_us: int) -> dict[str, Any]:
    return fields | {"ingested_us": received_us, "ingested_origin": "observed"}
