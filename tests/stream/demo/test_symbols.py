"""The demo's table of names links the items that come without symbols, and would not mislead about the others."""

from pathlib import Path

from earlybird.engine.text.assembly import Text
from earlybird.schemas.raw import RawNews
from earlybird.stream import demo
from earlybird.stream.demo.items import normal_items
from earlybird.stream.linking.linker import Linker
from earlybird.stream.linking.table import SymbolTable
from earlybird.stream.parsing.records import symbols_of, text_of

TABLE = Linker(SymbolTable.read(Path(demo.__file__).with_name("symbols.csv")))


def test_items_without_symbols_get_theirs() -> None:
    """A few of the feed."""
    bare = [item for item in normal_items() if not symbols_of(item)]
    assert sorted(symbol.symbol for item in bare for symbol in TABLE.linked(item).symbols) == ["KLVR", "SOLW", "VLTH"]


def test_the_table_agrees_with_the_feed() -> None:
    """Where a headline of the feed names its company, it is linked to the symbol that the feed says."""
    tagged = [item for item in normal_items() if isinstance(item, RawNews) and symbols_of(item)]
    pairs = [
        ({symbol.symbol for symbol in TABLE.symbols(text_of(item), TABLE.time_of(item))}, symbols_of(item)[0].symbol)
        for item in tagged
    ]
    named = [(linked, own) for linked, own in pairs if linked]
    assert len(named) > 0.9 * len(tagged) and sum(own in linked for linked, own in named) > 0.95 * len(named)


def test_an_ambiguous_name_needs_its_context() -> None:
    """Teal is a gas field, a colour, and a part of a park's name."""
    at_us = normal_items()[0].ingested_us
    texts = ("Gas found at Teal", "Teal is in fashion", "Gas leak at Teal Gardens")
    assert [len(TABLE.symbols(Text((text,)), at_us)) for text in texts] == [1, 0, 0]
