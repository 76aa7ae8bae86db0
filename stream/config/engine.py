"""Settings of the engine."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from earlybird.stream.config.cores import usable_cores
from earlybird.stream.config.types import Group


class Engine(Group):
    """How the model runs; only `dtype` can change a result beyond rounding."""

    threads: Annotated[int, Field(gt=0, le=1_024)] = Field(
        default_factory=usable_cores, description="engine threads; one per core that affinity and cgroup allow"
    )
    consumer_processes: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="consumer processes that share one engine (Linux); 0: one process does both",
    )
    slots: PositiveInt = Field(default=16, description="texts in the model at once, per thread; GPU: see tiers")
    token_budget: PositiveInt = Field(
        default=512, description="tokens in the model at once, per thread; on a GPU see tiers"
    )
    tiers: Annotated[tuple[tuple[PositiveInt, PositiveInt, PositiveInt], ...], Field(min_length=1)] | None = Field(
        default=None,
        description="GPU batch sizes, ascending: [[slots, tokens, steps per host sync], ...]; "
        "the smallest that holds the queue is used",
    )
    compile: bool = Field(default=False, description="on a GPU: compile each step; slower start, faster steps")
    dtype: Literal["float32", "float64", "bfloat16", "float16", "int8"] = Field(
        default="float32",
        description="arithmetic of the model; bfloat16 and float16 are fast on a GPU, int8 (matrix products) on a CPU",
    )
    deterministic: bool = Field(default=True, description="bits of a result do not depend on other texts")
    runner: Literal["auto", "packed", "resident", "reference"] = Field(
        default="auto",
        description="packed slots (CPU), resident loop (GPU), reference (slow); auto: by device",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: cuda if there is a GPU")
