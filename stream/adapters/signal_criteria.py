"""Decides on the columns of signals which of them a selection wants."""

from collections.abc import Collection
from typing import Any, Protocol

from earlybird.stream.adapters.parquet import arrow


class Criteria(Protocol):
    """Criteria of a selection that columns can decide; None means no restriction.

    stream.subscription.selection.Selection is one.
    """

    @property
    def symbols(self) -> Collection[str] | None: ...
    @property
    def labels(self) -> Collection[str] | None: ...
    @property
    def min_confidence(self) -> float: ...
    @property
    def max_duplicates(self) -> int | None: ...
    @property
    def min_relevance(self) -> float: ...
    @property
    def sources(self) -> Collection[str] | None: ...
    @property
    def item_types(self) -> Collection[str] | None: ...
    @property
    def single_symbol(self) -> bool: ...


def matching(table: Any, wanted: Criteria) -> Any:
    """Return a boolean Arrow array of the wanted rows, like Selection.matches for each."""
    pa = arrow()
    pc = pa.compute
    masks = [
        _among(table[name].combine_chunks(), names)
        for name, names in (("label", wanted.labels), ("source", wanted.sources), ("item_type", wanted.item_types))
        if names is not None
    ]
    if wanted.min_confidence > 0.0:
        masks.append(pc.greater_equal(table["confidence"].combine_chunks(), wanted.min_confidence))
    if wanted.max_duplicates is not None:
        masks.append(pc.less_equal(table["dup_count"].combine_chunks(), wanted.max_duplicates))
    symbols = table["symbols"].combine_chunks()
    if wanted.symbols is not None or wanted.min_relevance > 0.0:
        named, hits = pc.list_flatten(symbols), pc.list_parent_indices(symbols)
        fit = pa.array([True] * len(named), pa.bool_())
        if wanted.symbols is not None:
            # Before signal 1.1 every separator was written as a dot.
            fit = _among(
                named, {*wanted.symbols, *(each.replace("/", ".").replace("-", ".") for each in wanted.symbols)}
            )
        if wanted.min_relevance > 0.0:
            weights = pc.list_flatten(table["relevance"].combine_chunks())
            fit = pc.and_(fit, pc.fill_null(pc.greater_equal(weights, wanted.min_relevance), False))
        masks.append(pc.is_in(pa.array(range(table.num_rows), hits.type), hits.filter(fit)))
    if wanted.single_symbol:
        masks.append(pc.equal(pc.list_value_length(symbols), 1))
    mask = pa.array([True] * table.num_rows, pa.bool_())
    for each in masks:
        mask = pc.and_(mask, pc.fill_null(each, False))
    return mask


def _among(column: Any, names: Collection[str]) -> Any:
    pa = arrow()
    return pa.compute.is_in(column, pa.array(sorted(names), column.type))
