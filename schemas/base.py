"""What every message shares: frozen, strictly typed, unknown fields ignored, times in epoch microseconds."""

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

# 1973 to 2100. A second, millisecond or nanosecond epoch of our days falls outside, so a wrong unit is caught.
EARLIEST_US = 100_000_000_000_000
LATEST_US = 4_102_444_800_000_000

EpochUs = Annotated[int, Field(ge=EARLIEST_US, le=LATEST_US)]
"""An instant: integer microseconds since 1970-01-01 UTC."""

Share = Annotated[float, Field(ge=0.0, le=1.0)]
"""A fraction, 0 to 1."""


class Message(BaseModel):
    """Base of all messages. Immutable; a field unknown to this version is ignored, so that readers may lag behind
    writers; a value of another type is an error, never coerced."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, allow_inf_nan=False)

    SCHEMA: ClassVar[str]
    """Name and major version, as in the `schema` header, e.g. `signal/1`."""

    WIRE: ClassVar[type["Message"]]
    """The message whose bytes an instance is encoded to: its own class, unless that says otherwise."""

    @classmethod
    def __pydantic_init_subclass__(cls, **about: Any) -> None:
        """Set WIRE where the class body does not."""
        super().__pydantic_init_subclass__(**about)
        if "WIRE" not in cls.__dict__:
            cls.WIRE = cls
