"""Column names and types shared by archives, replays and frames.

pyarrow is passed in. Columns named *_us are epoch microseconds: int64 in files, UTC timestamps in frames. A value
outside its column's type (a `revision` of 2**63, say) is null; files keep the whole message in `value`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from earlybird.stream.observability.logging import get_logger

log = get_logger(__name__)

RECORD = {
    "topic": "string",
    "partition": "int32",
    "offset": "int64",
    "timestamp_us": "int64",
    "appended": "bool",
    "key": "binary",
    "value": "binary",
    "headers": "headers",
}
SIGNAL = {
    "signal_id": "string",
    "item_key": "string",
    "revision": "int64",
    "action": "string",
    "source": "string",
    "item_type": "string",
    "symbols": "strings",
    "label": "string",
    "p_negative": "double",
    "p_neutral": "double",
    "p_positive": "double",
    "score": "double",
    "confidence": "double",
    "exit_layer": "int16",
    "exit_reason": "string",
    "cache_hit": "bool",
    "model_sha256": "string",
    "config_hash": "string",
    "numerics": "string",
    "digest": "string",
    "run_id": "string",
    "published_us": "int64",
    "updated_us": "int64",
    "ingested_us": "int64",
    "emitted_us": "int64",
    "dup_of": "string",
    "model_id": "string",
    "dup_count": "int64",
    "relevance": "shares",
    "headline": "string",
    "url": "string",
}
FRAME = {
    "available_us": "instant",
    "event_us": "instant",
    **{name: "instant" if name.endswith("_us") else kind for name, kind in SIGNAL.items()},
}
_COLUMNS = {
    "frame": FRAME,
    "raw": {"available_us": "int64", **RECORD},
    "signals": {"available_us": "int64", **SIGNAL, **RECORD},
    "replayed": {"available_us": "int64", **SIGNAL, "value": "binary"},
}


def schema_of(pa: Any, kind: Literal["raw", "signals", "replayed", "frame"]) -> Any:
    """Return the Arrow schema of a file of this kind, or of a frame."""
    special = {
        "instant": pa.timestamp("us", "UTC"),
        "strings": pa.list_(pa.string()),
        "headers": pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())])),
        "shares": pa.list_(pa.float64()),  # one per symbol
        "double": pa.float64(),
        "bool": pa.bool_(),
    }
    types = {name: special[kind] if kind in special else getattr(pa, kind)() for name, kind in _COLUMNS[kind].items()}
    return pa.schema(list(types.items()))


def table_of(pa: Any, rows: Sequence[Mapping[str, Any]], schema: Any, place: str) -> Any:
    """Return rows as an Arrow table; missing and unfit values are null.

    Values that do not fit a column's type are counted in the log; they raise nothing.
    """
    columns = []
    for column in schema:
        values = [row.get(column.name) for row in rows]
        try:
            columns.append(pa.array(values, column.type))
        except (OverflowError, ValueError):  # pyarrow's ArrowInvalid is a ValueError
            fitting = [value if _fits(pa, value, column.type) else None for value in values]
            unfit = sum(kept is not value for kept, value in zip(fitting, values, strict=True))
            log.warning("column.values_left_out", place=place, column=column.name, type=str(column.type), values=unfit)
            columns.append(pa.array(fitting, column.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _fits(pa: Any, value: Any, kind: Any) -> bool:
    try:
        pa.scalar(value, kind)
    except (OverflowError, ValueError):
        return False
    return True
