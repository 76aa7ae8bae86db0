"""The linker that the settings name."""

import structlog

from earlybird.stream.config.symbols import Symbols
from earlybird.stream.linking.linker import Linker
from earlybird.stream.linking.table import SymbolTable

log = structlog.get_logger(__name__)


def load_linker(settings: Symbols) -> Linker | None:
    """Read the table and build its linker; None without a table. Raises SettingsError."""
    if settings.table is None:
        return None
    table = SymbolTable.read(settings.table)
    linker = Linker(table, every=settings.link == "every")
    log.info("symbols.loaded", symbol_table=linker.hash, aliases=len(table.aliases), undated=table.undated)
    return linker
