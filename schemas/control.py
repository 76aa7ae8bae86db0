"""Messages of control topics: heartbeats, and the completion of a replay.

With heartbeats a strategy can tell silence, lag and a dead stage apart.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from earlybird.schemas.base import EpochUs, Message


class PartitionProgress(Message):
    """One raw partition, as its worker sees it. Offsets name the next to read, as Kafka's do."""

    topic: str
    partition: Annotated[int, Field(ge=0)]
    committed: int | None = None
    low_water: int | None = None  # the broker has acknowledged the outcomes of everything below
    highest_finished: int | None = None
    unfinished: Annotated[int, Field(ge=0)] = 0
    oldest_unfinished_ingested_us: EpochUs | None = None


class Heartbeat(Message):
    """Sent each second by each worker, and only when its pipeline advanced or is truly idle. A worker that hangs
    falls silent; one that waits for news does not. `schema_version` is the lowest whose readers understand it."""

    SCHEMA: ClassVar[str] = "heartbeat/1"

    schema_version: Literal["1.0"] = "1.0"
    type: Literal["heartbeat"] = "heartbeat"
    worker: str
    sequence: Annotated[int, Field(ge=0)]
    state: Literal["starting", "running", "draining", "stopped"]
    partitions: tuple[PartitionProgress, ...] = ()
    shed: Annotated[int, Field(ge=0)] = 0  # texts shed since the worker started: too old when read (since 1.1)
    model_sha256: str
    config_hash: str
    numerics: str
    sent_us: EpochUs


class TopicEnd(Message):
    """Where one partition of a replay's topic ends: the offset behind its last signal."""

    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]


class ReplayComplete(Message):
    """Sent by a replay when its topic has its last signal. Whoever has read up to `ends` has all of them."""

    SCHEMA: ClassVar[str] = "replay-complete/1"

    schema_version: Literal["1.0"] = "1.0"
    type: Literal["replay_complete"] = "replay_complete"
    run_id: str
    topic: str
    ends: tuple[TopicEnd, ...]
    signals: Annotated[int, Field(ge=0)]  # retractions included
    content_sha256: str  # over all signals without `ts` and `run_id`: equal replays have equal hashes
    sent_us: EpochUs


Control = Annotated[Heartbeat | ReplayComplete, Field(discriminator="type")]
CONTROL: TypeAdapter[Heartbeat | ReplayComplete] = TypeAdapter(Control)
"""Decoder of a control topic's messages: CONTROL.validate_json raises pydantic's ValidationError."""
