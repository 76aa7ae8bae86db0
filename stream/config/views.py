"""Settings of the views."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, PositiveInt

from earlybird.stream.config.types import Group, GroupName, Milliseconds, TopicName


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError("http://host:port required, without a path")
    return url.rstrip("/")


class Views(Group):
    """Sentiment per symbol over windows: the service `earlybird views`."""

    group: Annotated[GroupName, Field(pattern=r"^[a-zA-Z0-9._-]{1,200}$")] = Field(
        default="earlybird-views", description="consumer group of the views, and the beginning of their topics' names"
    )
    topic: TopicName = Field(default="views.sentiment", description="compacted topic of the sentiment per symbol")
    url: Annotated[str, AfterValidator(_base_url)] | None = Field(
        default=None, description="address under which other workers of the views reach this one; none: http.host"
    )
    replication: PositiveInt = Field(default=1, description="copies of the topics that the views create")
    half_life_s: Annotated[float, Field(gt=0, le=10**7)] = Field(
        default=3_600.0, description="age at which an item counts half in the decayed mean, in seconds"
    )
    emit_interval_ms: Milliseconds = Field(
        default=1_000, description="least time between two messages about one symbol, in ms"
    )
    session_timeout_ms: Annotated[int, Field(ge=1_000, le=300_000)] = Field(
        default=10_000, description="time after which a silent worker's symbols move to another one, in ms"
    )
