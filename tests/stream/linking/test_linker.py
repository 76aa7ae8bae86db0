"""Names in texts: whole words, the right case, the right time, and context where a name means more than one thing."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from earlybird.engine.text.assembly import Text
from earlybird.schemas.base import EARLIEST_US, LATEST_US
from earlybird.schemas.raw import RAW, RawNews, RawTweet
from earlybird.stream.bench.link_command import invented_names, linker_of
from earlybird.stream.linking.linker import LONGEST_PART, MOST_SYMBOLS, Linker
from earlybird.stream.linking.table import Alias, SymbolTable
from earlybird.stream.linking.words import framed, split
from earlybird.stream.parsing.records import symbols_of

NOW_US = 1_770_000_000_000_000
CHANGE_US = 1_654_732_800_000_000  # 2022-06-09


def alias(name: str, symbol: str, context: str = "", **about: Any) -> Alias:
    fields: dict[str, Any] = {"exchange": "", "from_us": EARLIEST_US, "to_us": LATEST_US, "relevance": 1.0} | about
    return Alias(framed(split(name)), symbol, context=tuple(f" {word} " for word in context.split()), **fields)


def linker(*aliases: Alias, every: bool = False) -> Linker:
    return Linker(SymbolTable(tuple(sorted(aliases))), every=every)


def names(found: Linker, text: str, at_us: int = NOW_US) -> list[str]:
    return [symbol.symbol for symbol in found.symbols(Text((text,)), at_us)]


TABLE = linker(
    alias("Apple", "AAPL", "shares stock"),
    alias("Apple Inc", "AAPL"),
    alias("Apple Daily", ""),
    alias("Gap", "GPS", "shares"),
    alias("Ford", "F"),
    alias("Ford Motor Credit", "FMC"),
    alias("McDonald's", "MCD"),
    alias("Lowe", "LOWE"),
    alias("Reilly", "RLY"),
    alias("Coca-Cola", "KO"),
    alias("Cola", "COLA"),
    alias("AT&T", "T"),
    alias("ALL", "ALL"),
    alias("NVDA", "NVDA"),
    alias("Blackrock", "BLK"),
    alias("bitcoin", "BTC/USD"),
    alias("苹果", "AAPL"),
    alias("Nestlé", "NESN"),
    alias("Bank of America", "BAC"),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # whole words
        ("Ford revs up", ["F"]),
        ("Fordham, Stanford and Fords revs up", []),
        ("(Ford), “Ford” and 'Ford'", ["F"]),
        ("Ford's, FORD'S and Ford’s cars", ["F"]),
        ("shares' Ford'", ["F"]),
        ("$NVDA #Ford", ["NVDA", "F"]),
        ("@Ford ford@ford.example www.ford.example/Ford https://x.example/Ford", []),
        ("Ford.com Ford_x xFord Ford5", []),
        ("O'Reilly and O’Reilly's", []),
        ("McDonald’s rises; McDonald's's", ["MCD"]),
        ("Lowe's", ["LOWE"]),
        ("AT&T; AT&amp;T's 4G", ["T"]),
        ("AT & T", []),
        # hyphens
        ("Ford-built cars", ["F"]),
        ("Ford-Motor", []),
        ("non-Ford, Mac-Ford", []),
        ("UPDATE 1-Ford cuts", ["F"]),
        ("BRIEF-Ford cuts", ["F"]),
        ("Pepsi-Cola", []),
        ("Coca-Cola-backed Cola", ["KO", "COLA"]),
        ("Ford–GM", ["F"]),
        # neighbours without blanks
        ("福特Ford公司", ["F"]),
        ("买苹果手机", ["AAPL"]),
        ("苹 果", ["AAPL"]),
        ("Nestle\u0301 and NESTLÉ", ["NESN"]),
        ("İFord Ford", ["F"]),
        # case
        ("ford, fORD", []),
        ("FORD", ["F"]),
        ("nvda Nvda", []),
        ("BlackRock BLACKROCK", ["BLK"]),
        ("blackrock", []),
        ("Bitcoin, BITCOIN, bitcoin", ["BTC/USD"]),
        ("Bank Of America, BANK OF AMERICA", ["BAC"]),
        ("bank of America", []),
        ("You are ALL right", ["ALL"]),
        ("ALL EYES ON FED", []),
        ("FORD CUTS ALL OUTLOOKS", ["F"]),
        # context
        ("An Apple a day", []),
        ("Apple shares fall", ["AAPL"]),
        ("APPLE: STOCK UP AGAIN TODAY", ["AAPL"]),
        ("Apple, Inc.", ["AAPL"]),
        ("Mind the gap, shares fall", []),
        ("Gap year", []),
        ("Gap's shares", ["GPS"]),
        ("Gap shareholders", []),
        # overlaps
        ("Apple Daily shares", []),
        ("Apple Daily and Apple shares", ["AAPL"]),
        ("Ford Motor Credit and Ford Motor", ["FMC", "F"]),
        ("Ford; Motor Credit", ["F"]),
        ("", []),
        ("?!", []),
    ],
)
def test_which_names_a_text_holds(text: str, expected: Sequence[str]) -> None:
    """The table of rules, one by one."""
    assert sorted(names(TABLE, text)) == sorted(expected)


around = st.text(
    st.sampled_from(["a", "Z", "é", "5", "_", "-", "'", "’", "s", " ", ".", ",", "(", "果", "@", "&"]), max_size=4
)
NAMES = ["Ford", "Norvex Energy", "McDonald's", "AT&T", "Coca-Cola", "U.S. Bank", "NVDA"]


@given(around, st.sampled_from(NAMES), around)
@example("", "Ford", "'s")
@example("Mac-", "Ford", "")
def test_a_linked_name_is_never_a_piece_of_a_word(before: str, name: str, after: str) -> None:
    """Letters, digits and underscores beside it hide it; blanks never do."""
    joined = {char for char in (before[-1:], after[:1]) if char and (char.isalnum() or char == "_") and char != "果"}
    found = names(linker(alias(name, "X")), f"{before}{name}{after}")
    if joined:
        assert found == []
    if before[-1:] in ("", " ") and after[:1] in ("", " "):
        assert found == ["X"]


@given(
    st.lists(st.sampled_from([*NAMES, "Norvex", "Energy", "Bank"]), min_size=1, max_size=6),
    st.lists(st.sampled_from([*NAMES, "and", ",", "Norvex", "Energy's"]), max_size=8).map(" ".join),
    st.randoms(),
)
def test_links_do_not_depend_on_the_order_of_rows(rows: list[str], text: str, rng: Any) -> None:
    """Also not where rows share a name."""
    aliases = [alias(row, f"S{number}") for number, row in enumerate(rows)]
    shuffled = list(aliases)
    rng.shuffle(shuffled)
    one, other = (Linker(SymbolTable(tuple(sorted(each)))) for each in (aliases, shuffled))
    assert one.symbols(Text((text,)), NOW_US) == other.symbols(Text((text,)), NOW_US)
    assert one.hash == other.hash


@given(st.lists(st.sampled_from(["Norvex", "Energy", "Bank", "and", "of", "'s", ","]), max_size=10))
def test_links_are_those_of_a_slow_search(words: list[str]) -> None:
    """From left to right, at each place the longest name."""
    known = {("Norvex",): "A", ("Norvex", "Energy"): "B", ("Energy", "Bank"): "C", ("Bank", "of", "Norvex"): "D"}
    text = " ".join(words)
    expected, place, found = set[str](), 0, split(text)
    while place < len(found):
        length = max((n for n in (1, 2, 3) if tuple(found[place : place + n]) in known), default=0)
        if length:
            expected.add(known[tuple(found[place : place + length])])
        place += max(1, length)
    table = linker(*(alias(" ".join(name), symbol) for name, symbol in known.items()))
    assert set(names(table, text)) == expected


def test_a_name_has_the_symbol_of_its_time() -> None:
    """From its first instant to before its last; the instant of the change belongs to the new one."""
    renamed = linker(alias("Facebook", "FB", to_us=CHANGE_US), alias("Facebook", "META", from_us=CHANGE_US))
    assert names(renamed, "Facebook falls", CHANGE_US - 1) == ["FB"]
    assert names(renamed, "Facebook falls", CHANGE_US) == ["META"]
    longer = linker(alias("Facebook Inc", "FB", to_us=CHANGE_US), alias("Facebook", "META"))
    assert names(longer, "Facebook Inc", CHANGE_US) == ["META"], "a name that has ended hides none"


def news(**fields: Any) -> RawNews | RawTweet:
    base = {"item_key": "w:1", "source": "w", "source_item_id": "1", "item_type": "news", "ingested_us": NOW_US}
    return RAW.validate_python(base | fields, strict=False)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"ingested_us": CHANGE_US}, "META"),
        ({"published_us": CHANGE_US - 1, "ingested_us": CHANGE_US}, "FB"),  # a backfill
        ({"published_us": CHANGE_US - 1, "updated_us": CHANGE_US, "ingested_us": CHANGE_US}, "FB"),  # a correction
        ({"published_us": CHANGE_US, "ingested_us": CHANGE_US - 1}, "FB"),  # a source whose clock is ahead
    ],
)
def test_an_item_is_linked_as_of_its_own_time(times: dict[str, int], expected: str) -> None:
    """When it was published, for all its versions; never later than it arrived."""
    renamed = linker(alias("Facebook", "FB", to_us=CHANGE_US), alias("Facebook", "META", from_us=CHANGE_US))
    assert [s.symbol for s in renamed.linked(news(headline="Facebook falls", **times)).symbols] == [expected]


def test_only_items_without_symbols_are_linked_unless_all_are() -> None:
    """Cashtags count; a cashtag that names nothing does not. With `every`, what the provider named stays in front."""
    aliases = [alias("Ford", "F"), alias("Norvex", "NRVX", relevance=0.5)]
    missing, every = linker(*aliases), linker(*aliases, every=True)
    provided = news(headline="Ford and Norvex", symbols=[{"symbol": "NRVX", "origin": "provider"}])
    tweet = news(item_type="tweet", text="Ford and $NRVX", cashtags=["NRVX"])
    strange = news(item_type="tweet", text="Ford $,", cashtags=[","])
    assert missing.linked(provided) is provided and missing.linked(tweet) is tweet
    assert [(s.symbol, s.origin) for s in symbols_of(missing.linked(strange))] == [("F", "linked")]
    for item, origin in ((provided, "provider"), (tweet, "cashtag")):
        said = [(s.symbol, s.origin, s.relevance) for s in symbols_of(every.linked(item))]
        assert said == [("NRVX", origin, None), ("F", "linked", 1.0)]
    assert (missing.texts, every.texts) == (1, 2)


def test_relevance_falls_behind_the_headline_and_orders_the_symbols() -> None:
    """That of the row, halved in summary and body; the best mention of a symbol counts."""
    table = linker(alias("Ford", "F"), alias("Norvex", "NRVX", relevance=0.4, exchange="XNAS"), alias("Gap", "GPS"))
    item = news(
        headline="Norvex", summary="Ford and Norvex", body="<p>Gap <a href='Ford'>shares</a></p>", body_format="html"
    )
    found = table.linked(item).symbols
    assert [(s.symbol, s.relevance, s.exchange) for s in found] == [
        ("F", 0.5, None), ("GPS", 0.5, None), ("NRVX", 0.4, "XNAS"),
    ]  # fmt: skip
    assert names(table, "x " * (LONGEST_PART // 2 - 1) + "Fordham") == [], "a word that was cut is none"


def test_a_list_of_companies_links_a_bounded_number() -> None:
    """Those of the highest relevance."""
    many = [alias(f"N{number}", f"S{number}", relevance=number / 100) for number in range(100)]
    found = linker(*many).symbols(Text((" ".join(f"N{number}" for number in range(100)) + " x",)), NOW_US)
    assert [s.symbol for s in found] == [f"S{number}" for number in range(99, 99 - MOST_SYMBOLS, -1)]


def test_linking_is_far_faster_than_a_loop_of_expressions() -> None:
    """By a factor, on the same texts, whatever else the machine does. The factor grows with the table."""
    known = invented_names(3_000)
    table, texts = linker_of(known), [f"{name} lifts its outlook after strong orders" for name in known[:40]]
    expressions = [re.compile(rf"\b{re.escape(name)}\b") for name in known]

    def cpu_s(way: Callable[[str], object]) -> float:
        best = float("inf")
        for _ in range(3):
            start_s = time.process_time()
            for text in texts:
                way(text)
            best = min(best, time.process_time() - start_s)
        return best

    fast = cpu_s(lambda text: table.symbols(Text((text,)), NOW_US))
    slow = cpu_s(lambda text: [expression.search(text) for expression in expressions])
    assert all(names(table, text) for text in texts) and slow > 10 * fast
