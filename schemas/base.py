"""Base of all messages: frozen, strictly typed, unknown fields ignored, times in epoch microseconds."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

# 1973 to 2100. A current time in seconds, milliseconds or nanoseconds falls outside, so a wrong unit is caught.
EARLIEST_US = 100_000_000_000_000
LATEST_US = 4_102_444_800_000_000

EpochUs = Annotated[int, Field(ge=EARLIEST_US, le=LATEST_US)]
"""An instant: integer microseconds since 1970-01-01 UTC."""

INT64_MAX = 2**63 - 1

Int64 = Annotated[int, Field(ge=-INT64_MAX - 1, le=INT64_MAX)]
"""An integer that Parquet columns, Java and Go can hold as well."""

Count64 = Annotated[int, Field(ge=0, le=INT64_MAX)]
"""A non-negative Int64."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A fraction from 0 to 1."""


class Message(BaseModel):
    """Base of all messages. Immutable.

    A field unknown to this version is ignored, so that readers may lag behind writers; a value of another type is an
    error, never coerced. An error's text never quotes the input: logs must not hold licensed text.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    SCHEMA: ClassVar[str]
    """Name and major version, as in the `schema` header, e.g. `signal/1`."""

    WIRE: ClassVar[type["Message"]]
    """The message class that an instance is encoded as: its own class by default."""

    @classmethod
    def __pydantic_init_subclass__(cls, **about: Any) -> None:
        """Set WIRE to the class where its body does not set it."""
        super().__pydantic_init_subclass__(**about)
        if "WIRE" not in cls.__dict__:
            cls.WIRE = cls
