"""Raw records of every shape, for property tests: whatever a producer may send, up to `limits.max_record_bytes`."""

import json
from collections.abc import Sequence

from hypothesis import strategies as st

from earlybird.schemas.raw import RawNews, RawTweet
from earlybird.stream.ports import Record

NOW_US = 1_770_000_000_000_000
LARGEST = 1_048_576

Members = list[tuple[str, str]]
"""Names and JSON texts of an object's values, in order; a name may come twice."""

NEWS: Members = [
    ("item_key", '"wire:1"'),
    ("source", '"wire"'),
    ("source_item_id", '"1"'),
    ("item_type", '"news"'),
    ("ingested_us", str(NOW_US)),
    ("headline", '"Acme raises its outlook"'),
]
TWEET: Members = [*NEWS[:3], ("item_type", '"tweet"'), NEWS[4], ("text", '"$ACME raises its outlook"')]
FIELDS = sorted({*RawNews.model_fields, *RawTweet.model_fields, "unheard_of"})

sizes = st.sampled_from([0, 1, 3, 36, 65, 513, 5_000, 100_000, 440_000, 900_000])
characters = st.sampled_from(["x", "\\u0000", "\\u001b[31m", "\\n", "\\u202e", "é", "😀", "\\ud83d\\ude00", " ", ","])
long_strings = st.builds(lambda char, size: f'"{char * (size // len(char))}"', characters, sizes)
strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).map(json.dumps) | long_strings
lone_surrogates = st.sampled_from(['"\\ud800"', '"a\\udc00b"', '"\\ud83d x"'])
numbers = (
    st.sampled_from(["0", "-1", "-0", "1.5", "1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1e-400"])
    | st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30]).map(str)
    | st.sampled_from([1_770_000_000, NOW_US // 1_000, NOW_US, NOW_US + 1, NOW_US * 1_000]).map(str)
    | st.builds(lambda size: "1" * max(1, size), sizes)
)
scalars = st.sampled_from(["null", "true", "false"]) | numbers | strings | lone_surrogates
nested = st.builds(
    lambda opening, depth: opening * depth + "0" + ("]" if opening == "[" else "}") * depth,
    st.sampled_from(["[", '{"a":']),
    st.sampled_from([1, 5, 199, 201, 900, 5_000, 50_000]),
)
symbols = st.builds(
    lambda symbol, origin, exchange, count: "[" + ",".join([
        f'{{"symbol":{symbol[:-1]}{number}","origin":{origin},"exchange":{exchange}}}' for number in range(count)
    ]) + "]",
    st.sampled_from(['"A"', '"$brk-b"', '" "', '"\\u0001\\u0002\\u0003\\u0004\\u0005"', '"😀😀"']),
    st.sampled_from(['"provider"', '"cashtag"', '"nobody"']),
    st.sampled_from(["null", '"XNAS"', '"' + "\\u0001" * 64 + '"', '"' + "x" * 65 + '"']),
    st.sampled_from([1, 2, 512, 513, 3_000]),
)  # fmt: skip
lists = st.builds(lambda text, count: f"[{','.join([text] * count)}]", scalars.filter(lambda text: len(text) < 200),
                  st.sampled_from([0, 1, 3, 512, 600, 4_000]))  # fmt: skip
mappings = st.builds(
    lambda name, text, count: "{" + ",".join(f'"{number}{name}":{text}' for number in range(count)) + "}",
    st.sampled_from(["", "likes", "\\u001b", "x" * 100_000]),
    st.sampled_from(["1", '"a"', str(2**63), "null"]),
    st.sampled_from([0, 1, 3, 8]),
)
values = scalars | nested | symbols | lists | mappings
changes = st.lists(
    st.tuples(st.sampled_from(FIELDS), values)
    | st.tuples(st.just("action"), st.sampled_from(['"create"', '"update"', '"delete"']))
    | st.tuples(st.just("lang"), st.sampled_from(['"en"', '"de"', '"und"']))
    | st.tuples(st.sampled_from(["x" * 100_000, "\\u001b", "item_key"]), values),
    max_size=4,
)


def written(members: Members, without: Sequence[str] = ()) -> bytes:
    """A JSON object of these members, whatever they say."""
    return b"{%s}" % b",".join(f'"{name}":{text}'.encode() for name, text in members if name not in without)


items = st.builds(
    lambda base, changed, without, twice: written(
        [*base, *changed] if twice else [*(m for m in base if m[0] not in dict(changed)), *changed], without
    ),
    st.sampled_from([NEWS, TWEET]),
    changes,
    st.lists(st.sampled_from(FIELDS), max_size=1),
    st.booleans(),
)
elements = items | values.map(str.encode) | st.just(b"")
arrays = st.builds(
    lambda parts, times, end: b"[" + b",".join(parts * min(times, 1 + LARGEST // (1 + len(b",".join(parts))))) + end,
    st.lists(elements, max_size=4),
    st.sampled_from([1, 1, 1, 30, 1_200, 100_000]),
    st.sampled_from([b"]", b"]", b"]", b",]", b"", b"}", b"] x"]),
)
damaged = st.builds(
    lambda value, prefix, cut, junk: prefix + value[: len(value) - cut] + junk,
    items | arrays,
    st.sampled_from([b"", b"\xef\xbb\xbf", b" \n", b"\xff\xfe", b"\x00"]),
    st.integers(0, 40),
    st.sampled_from([b"", b"\x00", b"\xff", b'"', b"}", b"\xed\xa0\x80"]),
)
raw_values = (
    items | arrays | damaged | st.binary(max_size=200) | st.none()
    | st.builds(lambda byte, size: byte * size, st.sampled_from([b"[", b"{", b'"', b'"\\', b"[0,", b"\x00", b"\xff"]),
                st.sampled_from([1, 1_000, 100_000]))
)  # fmt: skip
keys = st.none() | st.sampled_from([b"wire:1", b"", b"\xff\xfe", b"k" * 513, b"k" * 5_000, b"k" * 900_000, b"\x00\x1b"])
headers = st.lists(
    st.tuples(
        st.sampled_from(["traceparent", "tracestate", "signal-id", "\x1b"]),
        st.none()
        | st.sampled_from([b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"rojo=1", b"\xc3\x28\xff"])
        | st.sampled_from([b"x" * 998_500, b"a=" + b"b" * 600, b""]),
    ),
    max_size=3,
).map(tuple)  # fmt: skip


def _limited(value: bytes | None) -> bytes | None:
    return None if value is None else value[:LARGEST]


def raw_records(topic: str = "news.raw", partition: int = 3, offset: int = 41) -> st.SearchStrategy[Record]:
    """Records with any key, headers and value of at most LARGEST bytes."""
    times = st.none() | st.sampled_from([NOW_US, 0, -1_000, 2**62])
    return st.builds(
        lambda key, value, at_us, about: Record(topic, partition, offset, key, _limited(value), at_us, about),
        keys,
        raw_values,
        times,
        headers,
    )
