"""Structure-aware mutation of raw records, from a seed: JSON trees first, then bytes.

Pure: the same seed gives the same inputs, on each machine.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any

# ruff: noqa: E501  (tables)

ODD_NUMBERS: Sequence[Any] = (
    0, -1, -0.0, 1.5, 1e308, -1e308, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**40, True, False, None,
    1_770_000_000, 1_770_000_000_000, 1_770_000_000_000_000, 1_770_000_000_000_000_000,
)  # fmt: skip
ODD_TEXTS: Sequence[str] = (
    "", " ", "\0", "\ud800", "\udc00\ud83d", "\u202e", "\ufeff", "\u200b", "null", "NaN", "en", "EN-us", "und", "eng", "$", "$BRK.B",
    "NYSE:BRK/B", "BTCUSD", "create", "update", "delete", "html", "plain", "2026-11-28T10:00:00Z", "2026-11-28", "20261128T100000Z",
    "Sat, 28 Nov 2026 10:00:00 GMT", "1770000000", "https://example.org/?q=" + "a" * 300, "&amp;lt;p&amp;gt;", "&#x1F600;",
    "&#" + "9" * 40 + ";", "<p>Acme <b>cuts</b> outlook</p>", "<script>x</script", "<!--", "<a href=\"", "data:a;base64," + "A" * 80,
    "RT @acme: ", "ï»¿", "â€™", "Ａｃｍｅ", "𝐀𝐜𝐦𝐞", "😀", "é", "e\u0301", "\u1100\u1161", "한국", "\r\n", "\t", "\u2028", "%s%n", "{}", "'",
    '"', "\\", "a" * 600,
)  # fmt: skip
WORDS = (
    "Acme",
    "Bolt",
    "shares",
    "fall",
    "rise",
    "12%",
    "$4.2 bln",
    "profit",
    "loss",
    "cuts",
    "outlook",
    "from 3.1",
    "vs",
)
JUNK: Sequence[bytes] = (
    b"", b"\x00", b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf5", b'"', b"\\", b"\\u", b"\\ud800", b"{", b"}",
    b"[", b"]", b",", b":", b"[[", b"{}", b"1e999", b"NaN", b"-Infinity", b"//", b"0" * 40, b"\n", b" ",
)  # fmt: skip


class Mutator:
    """An endless stream of inputs made from `seeds`, which are JSON texts or any bytes."""

    def __init__(self, seeds: Sequence[bytes], seed: str) -> None:
        self._rng = Random(seed)
        self._seeds = list(seeds)
        self._trees = [tree for tree in map(_tree, seeds) if tree is not None]
        self._keys = sorted({key for tree in self._trees for key in _keys(tree)})

    def inputs(self, count: int) -> Iterator[bytes]:
        """Yield so many inputs; one in a thousand is large (up to some 300 KB)."""
        for _ in range(count):
            yield self._one()

    def _one(self) -> bytes:
        rng = self._rng
        if self._trees and rng.random() < 0.75:
            tree = json.loads(json.dumps(rng.choice(self._trees)))
            for _ in range(rng.randint(1, 4)):
                tree = self._changed(tree)
            value = self._written(tree)
        else:
            value = rng.choice(self._seeds)
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 5))):
            value = self._damaged(value)
        if rng.random() < 0.001 and value:
            value *= max(1, 300_000 // len(value))
        return value

    def _changed(self, tree: Any) -> Any:
        """Return the tree with one node changed, wrapped or repeated."""
        rng = self._rng
        if isinstance(tree, dict) and tree and rng.random() < 0.9:
            key = rng.choice(list(tree))
            how = rng.random()
            if how < 0.55:
                tree[key] = self._changed(tree[key])
            elif how < 0.7:
                del tree[key]
            elif how < 0.85:
                tree[rng.choice(self._keys)] = self._leaf()
            else:
                tree[rng.choice(self._keys)] = tree[key]
            return tree
        if isinstance(tree, list) and tree and rng.random() < 0.9:
            place = rng.randrange(len(tree))
            how = rng.random()
            if how < 0.6:
                tree[place] = self._changed(tree[place])
            elif how < 0.75:
                del tree[place]
            else:
                tree[place:place] = [tree[place]] * rng.choice((1, 2, 30))
            return tree
        how = rng.random()
        if how < 0.06:
            return [tree] * rng.choice((0, 1, 3))
        if how < 0.1:
            return {rng.choice(self._keys or ["a"]): tree}
        if isinstance(tree, str) and how < 0.6:
            return self._text(tree)
        return self._leaf()

    def _leaf(self) -> Any:
        how = self._rng.random()
        if how < 0.35:
            return self._rng.choice(ODD_NUMBERS)
        if how < 0.9:
            return self._text(self._rng.choice(ODD_TEXTS))
        return self._rng.choice(([], {}, [[]], [None], [{"symbol": "A"}], {"a": {"b": []}}))

    def _text(self, text: str) -> str:
        rng = self._rng
        parts = [text, *(rng.choice((*ODD_TEXTS, *WORDS)) for _ in range(rng.choice((0, 1, 3, 12))))]
        rng.shuffle(parts)
        return rng.choice(("", " ")).join(parts)

    def _written(self, tree: Any) -> bytes:
        rng = self._rng
        text = json.dumps(
            tree,
            ensure_ascii=rng.random() < 0.5,
            indent=rng.choice((None, None, None, 1)),
            separators=rng.choice((None, (",", ":"))),
        )
        return text.encode("utf-8", "surrogatepass")

    def _damaged(self, value: bytes) -> bytes:
        """Return the bytes with a place cut out, doubled, overwritten or spliced."""
        rng = self._rng
        start = rng.randint(0, len(value))
        end = min(len(value), start + rng.choice((0, 1, 2, 8, 100)))
        how = rng.random()
        if how < 0.4:
            return value[:start] + rng.choice(JUNK) + value[end:]
        if how < 0.6:
            return value[:start] + bytes(rng.randrange(256) for _ in range(end - start)) + value[end:]
        if how < 0.75:
            return value[:end] + value[start:end] * rng.choice((1, 2, 50)) + value[end:]
        if how < 0.9:
            return value[:start] + value[end:]
        return value[:start] + rng.choice(self._seeds)[-rng.randint(0, 200) :]


def shrunk(value: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Return a smaller input that fails as well: pieces are cut out, from halves down to bytes."""
    halves = (len(value) >> power for power in range(1, len(value).bit_length()))
    for size in (*halves, 4, 3, 2, 1):  # three: a character of UTF-8
        at = 0
        while at < len(value):
            shorter = value[:at] + value[at + size :]
            if fails(shorter):
                value = shorter
            else:
                at += size
    return value


def _tree(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return None


def _keys(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        yield from tree
    for child in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _keys(child)
