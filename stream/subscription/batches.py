"""Signals as columns, for pandas, polars and DuckDB. pyarrow is imported when asked for: extra `strategies`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from stream.adapters.columns import schema_of, table_of
from stream.adapters.parquet import Row, signal_row
from stream.errors import StreamError
from stream.extras import cure
from stream.subscription.received import Received

if TYPE_CHECKING:
    import pyarrow as pa


def arrow_table(signals: Sequence[Received]) -> "pa.Table":
    """One row a signal, in the given order, with the columns of an archive; instants (`*_us`) are timestamps in UTC. A
    retraction has nulls where there is no result. Raises StreamError without pyarrow."""
    try:
        import pyarrow as pa
    except ImportError:
        raise StreamError(f"Arrow batches need pyarrow: {cure('strategies')}") from None
    table: pa.Table = table_of(pa, [_row(signal) for signal in signals], schema_of(pa, "frame"), "frame")
    return table


def _row(signal: Received) -> Row:
    return signal_row(signal) | {
        "available_us": signal.available_us,
        "event_us": signal.event_us,
        "dup_of": signal.novelty.dup_of if signal.novelty else None,
        "model_id": signal.model.id,
    }
