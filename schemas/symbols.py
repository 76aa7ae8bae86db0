"""The grammar of symbols: maps every spelling of an instrument to one name.

Signals, headers and filters use that name.

| written | name |
|---|---|
| `NVDA`, `nvda`, `$NVDA`, ` NVDA ` | `NVDA` |
| `BRK.B`, `BRK-B`, `BRK/B`, `BRK_B`, `BRK B`, `$brk.b` | `BRK.B`: share classes, preferred shares, exchange suffixes |
| `VOD.L`, `vod-l`, `0700.HK`, `BMW.DE` | `VOD.L`, `0700.HK`, `BMW.DE` |
| `BTC-USD`, `BTC/USD`, `btc_usd`, `BTC.USD` | `BTC/USD`: the second part is a currency or coin of `QUOTES` |
| `BTC-USDT-SWAP`, `btc/usdt:usdt` | `BTC/USDT-SWAP`, `BTC/USDT:USDT` |
| `NYSE: BRK.B`, `NYSE:BRK/B` | `NYSE:BRK.B` |
| `NASDAQ:NVDA`, `^GSPC`, `ES=F`, `BTCUSD` | as written, in capitals: nothing shows where to split them |

A name has 1 to 32 printable characters and no comma (the `symbols` header is a list with commas). Mapping is
idempotent: a name maps to itself.
"""

import re
import unicodedata
from functools import lru_cache
from typing import Annotated

from pydantic import BeforeValidator

LONGEST = 32  # characters of a name
QUOTES = frozenset((
    "AUD", "BRL", "CAD", "CHF", "CNH", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "IDR", "ILS",
    "INR", "JPY", "KRW", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "SEK", "SGD", "THB", "TRY", "TWD",
    "USD", "ZAR", "BTC", "ETH", "BNB", "XBT", "DAI", "USDC", "USDT", "TUSD", "FDUSD", "PYUSD", "XAU", "XAG",
))  # fmt: skip
"""Currencies and coins that make a pair as its second part."""

_LONGEST_WRITTEN = 4 * LONGEST  # blanks and signs around a name included
_SEPARATORS = re.compile("[ ./_\u2010-\u2015\u2044\u2212\u2215-]+")  # with the dashes and slashes of typesetters
_AROUND_COLON = re.compile(r" *: *")


def canonical_symbol(written: str) -> str:
    """Return the name of an instrument.

    Raises ValueError for text that can name none: blanks, commas, control characters.
    """
    if len(written) > _LONGEST_WRITTEN:  # refused before the cache, which would keep it
        raise ValueError(f"at most {LONGEST} characters allowed, was {len(written)}")
    return _name(written)


@lru_cache(maxsize=65_536)
def _name(written: str) -> str:
    name = _once(written)
    while (again := _once(name)) != name:  # repeat: capitals of rare letters may normalise further
        name = again
    if not name:
        raise ValueError("at least one character besides blanks and signs required")
    if len(name) > LONGEST:
        raise ValueError(f"at most {LONGEST} characters allowed, was {len(name)}")
    if "," in name or not name.isprintable():
        raise ValueError("commas and control characters are not allowed")
    return name


def _once(written: str) -> str:
    visible = "".join(char for char in unicodedata.normalize("NFKC", written) if unicodedata.category(char) != "Cf")
    bare = _AROUND_COLON.sub(":", visible.strip().lstrip("$")).upper()
    parts = [part for part in _SEPARATORS.split(bare) if part]
    if len(parts) > 1 and parts[1].partition(":")[0] in QUOTES:
        return "-".join(["/".join(parts[:2]), *parts[2:]])
    return ".".join(parts)


def _canonical_if_any(value: object) -> object:
    try:
        return canonical_symbol(value) if isinstance(value, str) else value
    except ValueError:
        return value


Canonical = BeforeValidator(_canonical_if_any)
"""Validator of a field that holds a symbol: the canonical name is validated, whatever was written. Text that can name
nothing is kept, so that signals of earlier versions can be read; raw items refuse it."""

CanonicalSymbol = Annotated[str, Canonical]
