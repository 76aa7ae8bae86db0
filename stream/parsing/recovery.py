"""Recovery of item_key, revision and action of an element that did not validate."""

from collections.abc import Mapping
from typing import Any, Literal

from earlybird.schemas.base import EARLIEST_US, INT64_MAX, LATEST_US
from earlybird.schemas.raw import Action, RevisionKind

LONGEST_ITEM_KEY = 512  # the limit in RawItem


def key_text(key: bytes | None) -> str | None:
    """Decode a record's key as an item_key; None if it cannot be one."""
    try:
        text = (key or b"").decode()
    except UnicodeDecodeError:
        return None
    return text if 0 < len(text) <= LONGEST_ITEM_KEY else None


def refused_action(action: object) -> Literal["create", "update"] | None:
    """Return the action of a version that cannot be read; None for a delete."""
    if action == Action.DELETE:
        return None
    return "update" if action == Action.UPDATE else "create"


def item_key_of(value: object) -> str | None:
    """Return the value if it has the form `source:source_item_id`."""
    if not isinstance(value, str) or len(value) > LONGEST_ITEM_KEY or not value.isprintable():
        return None
    source, colon, item_id = value.partition(":")
    return value if source and colon and item_id else None


def revision_of(fields: Mapping[str, Any]) -> tuple[int, RevisionKind]:
    """Compute the revision as RawItem does.

    A number that cannot be read is comparable with none. No lesser field takes its place: an edit without a usable
    `updated_us` would pass for the original.
    """
    names = {
        "revision": RevisionKind.COUNTER,
        "updated_us": RevisionKind.UPDATED,
        "published_us": RevisionKind.PUBLISHED,
    }
    for name, kind in names.items():
        if (given := fields.get(name)) is not None:
            least, most = (0, INT64_MAX) if name == "revision" else (EARLIEST_US, LATEST_US)
            usable = type(given) is int and least <= given <= most
            return (given, kind) if usable else (0, RevisionKind.NONE)
    return 0, RevisionKind.NONE
