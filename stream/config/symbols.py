"""Settings of the symbols that a table of names gives to texts."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from earlybird.stream.config.types import Group


class Symbols(Group):
    """Symbols for texts that come without; off without a table."""

    table: Path | None = Field(
        default=None, description="table of names and their symbols, see [symbols](symbols.md); none: off"
    )
    link: Literal["missing", "every"] = Field(
        default="missing", description="missing: texts without symbols; every: all texts, beside those of the provider"
    )
