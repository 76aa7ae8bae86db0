"""Topics of the views: names, and how they are created."""

from collections.abc import Mapping

from earlybird.stream.adapters.topics import Topic
from earlybird.stream.config.views import Views

_KEPT_MS = 7 * 86_400_000  # longer than items count, so that nothing unread is deleted that would
_COMPACTED = {
    "cleanup.policy": "compact",
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": "3600000",
    "delete.retention.ms": "86400000",
}

ITEMS, SYMBOLS = "items", "symbols"
"""Names of the two tables."""


def by_symbol(views: Views) -> str:
    """Return the name of the topic that carries items to their symbols' partitions."""
    return f"{views.group}-by-symbol"


def changelog(views: Views, table: str) -> str:
    """Return the name of a table's changelog, as Faust has it."""
    return f"{views.group}-{table}-changelog"


def views_topics(views: Views, partitions: int) -> list[Topic]:
    """Return the topics of the views; `partitions` are those of `signals`."""
    compacted: Mapping[str, str] = _COMPACTED
    return [
        Topic(by_symbol(views), partitions, views.replication, {"retention.ms": str(_KEPT_MS)}),
        Topic(changelog(views, ITEMS), partitions, views.replication, compacted),
        Topic(changelog(views, SYMBOLS), partitions, views.replication, compacted),
        Topic(views.topic, partitions, views.replication, compacted),
    ]
