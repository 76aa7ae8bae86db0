"""Signals as columns, for pandas, polars and DuckDB. pyarrow is imported when asked for: extra `strategies`."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stream.errors import StreamError
from stream.extras import cure
from stream.subscription.received import Received

if TYPE_CHECKING:
    import pyarrow as pa

# name -> (Arrow type by its name in pyarrow, value); a retraction has nulls where there is no result
_COLUMNS: dict[str, tuple[str, Callable[[Received], Any]]] = {
    "available_us": ("int64", lambda signal: signal.available_us),
    "event_us": ("int64", lambda signal: signal.event_us),
    "ingested_us": ("int64", lambda signal: signal.ts.ingested_us),
    "signal_id": ("string", lambda signal: signal.signal_id),
    "item_key": ("string", lambda signal: signal.item_key),
    "revision": ("int64", lambda signal: signal.revision),
    "action": ("string", lambda signal: signal.action.value),
    "source": ("string", lambda signal: signal.source),
    "item_type": ("string", lambda signal: signal.item_type),
    "symbols": ("list", lambda signal: list(signal.tickers)),
    "label": ("string", lambda signal: signal.label.value if signal.label else None),
    "score": ("float64", lambda signal: signal.score),
    "confidence": ("float64", lambda signal: signal.confidence),
    "negative": ("float64", lambda signal: signal.probs.negative if signal.probs else None),
    "neutral": ("float64", lambda signal: signal.probs.neutral if signal.probs else None),
    "positive": ("float64", lambda signal: signal.probs.positive if signal.probs else None),
    "exit_layer": ("int32", lambda signal: signal.exit.layer if signal.exit else None),
    "exit_reason": ("string", lambda signal: signal.exit.reason.value if signal.exit else None),
    "dup_of": ("string", lambda signal: signal.novelty.dup_of if signal.novelty else None),
    "model": ("string", lambda signal: signal.model.id),
    "config_hash": ("string", lambda signal: signal.model.config_hash),
    "run_id": ("string", lambda signal: signal.run_id),
}


def arrow_table(signals: Sequence[Received]) -> "pa.Table":
    """One row a signal, in the given order; instants are int64 epoch microseconds. Raises StreamError without
    pyarrow."""
    try:
        import pyarrow as pa
    except ImportError:
        raise StreamError(f"Arrow batches need pyarrow: {cure('strategies')}") from None
    kinds = {"list": pa.list_(pa.string())}
    return pa.table(
        {
            name: pa.array(map(value, signals), type=kinds.get(kind) or pa.type_for_alias(kind))
            for name, (kind, value) in _COLUMNS.items()
        }
    )
