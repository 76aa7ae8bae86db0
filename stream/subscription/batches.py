"""Signals as columns, for pandas, polars and DuckDB.

Needs extra `strategies`; pyarrow is imported on first use.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from earlybird.stream.adapters.columns import schema_of, table_of
from earlybird.stream.adapters.parquet import Row, arrow, signal_row
from earlybird.stream.errors import SettingsError, StreamError
from earlybird.stream.extras import install_hint
from earlybird.stream.subscription.received import Received

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def arrow_table(signals: Sequence[Received]) -> "pa.Table":
    """Return one row per signal, in the given order, with an archive's columns.

    Instants (`*_us`) are timestamps in UTC. A retraction has nulls where there is no result. Raises StreamError without
    pyarrow.
    """
    pa = _arrow()
    table: Any = table_of(pa, [_row(signal) for signal in signals], schema_of(pa, "frame"), "frame")
    return table


def pandas_frame(table: "pa.Table") -> "pd.DataFrame":
    """Return a table of signals as a DataFrame, indexed by availability.

    Integers and booleans are pandas' nullable ones: a null in a batch changes neither a column's type nor the digits of
    its other numbers.
    """
    import pandas as pd
    import pyarrow as pa

    kinds = {pa.int64(): pd.Int64Dtype(), pa.int16(): pd.Int16Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: pd.DataFrame = table.to_pandas(types_mapper=kinds.get)
    return frame.set_index(frame["available_us"].rename("available"))


def archived_table(rows: Any, available_us: Sequence[int]) -> "pa.Table":
    """Return the table of `arrow_table` from archive rows, without decoding messages.

    `available_us` holds, per row, the instant at which a strategy has it.
    """
    pa = _arrow()
    schema = schema_of(pa, "frame")
    event_us = pa.compute.coalesce(rows["updated_us"], rows["published_us"], rows["ingested_us"])
    columns_by_name = {"available_us": pa.array(available_us, "int64"), "event_us": event_us}
    columns = [columns_by_name[field.name] if field.name in columns_by_name else rows[field.name] for field in schema]
    table: Any = pa.table([column.cast(field.type) for column, field in zip(columns, schema, strict=True)], schema)
    return table


def joined(tables: Sequence["pa.Table"]) -> "pa.Table":
    """Concatenate tables; of none, return a table without rows."""
    pa = _arrow()
    table: Any = pa.concat_tables(tables) if tables else schema_of(pa, "frame").empty_table()
    return table


def _arrow() -> Any:
    try:
        return arrow()
    except SettingsError:
        raise StreamError(f"Arrow batches need pyarrow: {install_hint('strategies')}") from None


def _row(signal: Received) -> Row:
    return signal_row(signal) | {"available_us": signal.available_us, "event_us": signal.event_us}
