"""Figures and their changes, in the number styles of news and filings."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

Style = Callable[[float], str]

_CHANGES = {"slight": (0.002, 0.019), "normal": (0.02, 0.14), "strong": (0.15, 0.55)}
_PRICE_CHANGES = {"slight": (0.002, 0.009), "normal": (0.01, 0.06), "strong": (0.07, 0.28)}
_POINTS = {"slight": (0.1, 0.3), "normal": (0.3, 1.5), "strong": (1.5, 5.0)}
PRICES = frozenset({"share", "index", "metal", "oil", "coin", "fx"})
_MILLIONS: tuple[Style, ...] = (
    lambda x: f"${_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"${_short(x)}{_scale(x, 'M', 'B')}",
    lambda x: f"${_short(x)}{_scale(x, 'm', 'bn')}",
    lambda x: f"EUR {_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"EUR{_short(x)}{_scale(x, 'mn', 'bn')}",
    lambda x: f"EUR {_short(x)} {_scale(x, 'mln', 'bln')}",
    lambda x: f"€{_short(x)}{_scale(x, 'm', 'bn')}",
    lambda x: f"£{_short(x)}{_scale(x, 'm', 'bn')}",
    lambda x: f"{_short(x)} {_scale(x, 'million', 'billion')} euros",
    lambda x: f"{_short(x)} {_scale(x, 'million', 'billion')} dollars",
    lambda x: f"{_short(x)} {_scale(x, 'mln', 'bln')} pounds",
    lambda x: f"USD {_short(x)} {_scale(x, 'mn', 'bn')}",
    lambda x: f"SEK {x * 10:,.0f} million",
    lambda x: f"DKK {x * 7:,.1f} mn",
    lambda x: f"NOK{x * 10:,.0f}m",
    lambda x: f"CHF {_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"C${_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"A${_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"¥{x / 10:,.1f} billion",
    lambda x: f"{x / 10:,.1f} billion yen",
    lambda x: f"Rs {x * 8:,.0f} crore",
    lambda x: f"HK${_short(x)}{_scale(x, 'm', 'bn')}",
    lambda x: f"EUR {_short(x)} {_scale(x, 'mn', 'bn')}",
    lambda x: f"EUR {_short(x)}{_scale(x, 'm', 'bn')}",
    lambda x: f"{_short(x)} {_scale(x, 'mn', 'bn')} euros",
    lambda x: f"€{_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"£{_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"US${_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"${_short(x)} {_scale(x, 'mln', 'bln')}",
    lambda x: f"GBP {_short(x)} {_scale(x, 'mln', 'bln')}",
    lambda x: f"SEK {x * 10:,.0f} mln",
    lambda x: f"SEK {x * 10:,.0f}m",
    lambda x: f"{x * 10:,.0f} million crowns",
    lambda x: f"NOK {x * 10:,.0f} million",
    lambda x: f"PLN {x * 4:,.1f} million",
    lambda x: f"{x / 10:,.2f} bln yen",
    lambda x: f"₹{x * 8:,.0f} crore",
    lambda x: f"S${_short(x)} {_scale(x, 'million', 'billion')}",
    lambda x: f"CHF {_short(x)}{_scale(x, 'm', 'bn')}",
)
_STYLES: dict[str, tuple[Style, ...]] = {
    "eps": (
        lambda x: f"${x:.2f}",
        lambda x: f"EUR {x:.2f}",
        lambda x: f"EUR{x:.2f}",
        lambda x: f"{x * 100:.0f} cents",
        lambda x: f"{x * 100:.0f}c",
        lambda x: f"{x * 20:.1f} pence",
        lambda x: f"{x * 20:.1f}p",
        lambda x: f"${x:.2f} per share",
        lambda x: f"{x:.2f} euros",
        lambda x: f"€{x:.2f}",
        lambda x: f"EUR {x:.2f} per share",
        lambda x: f"{x * 100:.0f} cents a share",
        lambda x: f"SEK {x * 10:.2f}",
        lambda x: f"{x:.2f}",
    ),
    "pct": (lambda x: f"{x:.1f}%", lambda x: f"{x:.1f} percent", lambda x: f"{x:.1f} pct", lambda x: f"{x:.1f} %"),
    "count": (lambda x: f"{x:,.0f}", lambda x: f"{x / 1000:,.1f}k", lambda x: f"{x / 100:,.2f} million"),
    "thousands": (lambda x: f"{x:.0f},000", lambda x: f"{x:.0f}k", lambda x: f"{x:.1f} thousand"),
    "ratio": (lambda x: f"{x:.1f} times", lambda x: f"{x:.1f}x"),
    "days": (lambda x: f"{x:.0f} days",),
    "bp": (lambda x: f"{x:.0f} basis points", lambda x: f"{x:.0f}bp"),
    "index": (lambda x: f"{x:,.0f}", lambda x: f"{x:,.1f} points"),
    "pmi": (lambda x: f"{x:.1f}", lambda x: f"{x:.1f} points"),
    "fx": (lambda x: f"{x:.2f}",),
    "share": (lambda x: f"${x:.2f}", lambda x: f"{x:.2f} euros", lambda x: f"{x * 10:.0f} pence"),
    "metal": (lambda x: f"${x * 20:,.0f}", lambda x: f"${x * 20:,.2f}"),
    "oil": (lambda x: f"${x:.2f}",),
    "coin": (lambda x: f"${x * 900:,.0f}", lambda x: f"{x * 900:,.0f} dollars"),
}
_RANGES = {
    "money": (3.0, 9000.0),
    "billions": (2000.0, 900_000.0),
    "eps": (0.12, 6.0),
    "pct": (2.5, 40.0),
    "count": (310.0, 90_000.0),
    "thousands": (20.0, 400.0),
    "ratio": (0.8, 5.5),
    "days": (12.0, 140.0),
    "bp": (60.0, 600.0),
    "index": (900.0, 30_000.0),
    "pmi": (42.0, 58.0),
    "fx": (60.0, 140.0),
}


@dataclass(frozen=True, slots=True)
class Change:
    """A quantity before and after, and the change as texts state it."""

    then: str
    now: str
    size: str  # bare: "8%"
    est: str  # what analysts expected: `now` is above it for a rise and below it for a fall
    ago: str  # of an earlier period, on either side of `then`


def change(unit: str, strength: str, sign: int, rng: Random) -> Change:
    """Draw a change of this unit and direction.

    The draws do not depend on the sign, so that a mirror starts from the same quantity.
    """
    low, high = _RANGES.get(unit, (8.0, 120.0))
    style = rng.choice(_MILLIONS if unit in ("money", "billions") else _STYLES[unit])
    then = low * (high / low) ** rng.random()
    points = unit in ("pct", "pmi")
    sizes = _POINTS if points else _PRICE_CHANGES if unit in PRICES else _CHANGES
    least, most = sizes[strength]
    size = rng.uniform(least, most)
    size = max(round(size, 1), 0.1) if points else size
    words = _points(unit, size, rng) if points else percent(size * 100, rng)
    if points:
        then = round(then, 1) + (size if unit == "pct" else 0.0)  # a rate stays above zero
    now = then + sign * size if points else then * (1 + sign * size)
    while style(now) == style(then):  # a small change must show in the rounded figures
        then *= 3.0
        now *= 3.0
    step, drift = rng.uniform(least, most), rng.uniform(-1.0, 1.0)
    step = max(round(step, 1), 0.1) if points else step
    est = now - sign * step * (1.0 if points else now)
    while style(est) == style(now):
        step *= 2.0
        est = now - sign * step * now
    ago = then + drift * (1.0 if points else 0.2 * then)
    return Change(style(then), style(now), words, style(est), style(ago))


def percent(value: float, rng: Random) -> str:
    """Write a percentage in one of the usual styles."""
    text = f"{value:.0f}" if value >= 2 and rng.random() < 0.5 else f"{max(value, 0.1):.1f}"
    return text + rng.choice(("%", "%", "%", "%", " percent", " pct", " per cent", " %"))


def amount(rng: Random, styles: Random) -> str:
    """Write an amount of money; amounts with one state of `styles` have one currency."""
    value = 3.0 * 2000.0 ** rng.random()
    value = float(f"{value:.2g}") if rng.random() < 0.6 else value
    return styles.choice(_MILLIONS)(value)


def _points(unit: str, size: float, rng: Random) -> str:
    if unit == "pct" and rng.random() < 0.5:
        return f"{size * 100:.0f} {rng.choice(('basis points', 'bps', 'bp'))}"
    return f"{size:.1f} {rng.choice(('percentage points', 'points') if unit == 'pct' else ('points',))}"


def _short(millions: float) -> str:
    value = millions / 1000 if millions >= 1000 else millions
    text = f"{value:.2f}" if millions >= 1000 else f"{value:.1f}"
    return text.rstrip("0").rstrip(".")


def _scale(millions: float, small: str, large: str) -> str:
    return large if millions >= 1000 else small
