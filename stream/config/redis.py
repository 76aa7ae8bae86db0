"""Settings of the duplicate cache."""

from typing import Annotated

from pydantic import Field

from earlybird.stream.config.types import Group, Milliseconds, RedisUrl


class Redis(Group):
    """The duplicate cache; while it is absent or down, every text is computed."""

    url: RedisUrl | None = Field(
        default=None, repr=False, description="redis://[user:password@]host:port/db; none: no cache"
    )
    secret: Annotated[str, Field(min_length=16)] | None = Field(
        default=None,
        repr=False,
        description="key that signs cached results, one for all workers; none: Redis is trusted",
    )
    ttl_s: Annotated[int, Field(gt=0, le=10**9)] = Field(
        default=86_400, description="time to live of results for duplicates, by recorded times, in s"
    )
    lease_ms: Milliseconds = Field(
        default=2_000, description="how long other workers wait for the one that computes a text, in ms"
    )
    budget_ms: Milliseconds = Field(default=20, description="time-out of one call to the cache, in ms")
