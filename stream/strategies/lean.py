"""Signals as custom-data files of Lean (QuantConnect).

    write_lean(Signals.replay("archive/", latency="250ms"), "data/custom/earlybird")

One file per symbol, one JSON object per line, in the order of availability: `end_time` is when the signal could be
known (UTC), and Lean hands data out at its end time, never before. A PythonData class that reads them is in
examples/lean_algorithm.py.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from earlybird.stream.client import Latest, Received

_HELD = 100_000  # lines in memory before they are written


def write_lean(signals: Iterable[Received], folder: str | Path) -> int:
    """Write a file per symbol into an empty folder; return the number of lines.

    A line is a change of an item's state: late old revisions and duplicates are left out. A retraction, and a
    correction that no longer names the symbol, has `action` "retract", an empty label and a score of 0. Files get their
    names once all are complete. Raises ValueError for a folder that holds anything, and for signals that are not in the
    order of availability.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ValueError(f"{folder}: an empty folder required, was not")
    held: defaultdict[str, list[str]] = defaultdict(list)
    written, symbols = 0, set[str]()
    for symbol, line in _lines(signals):
        held[symbol].append(line)
        symbols.add(symbol)
        written += 1
        if written % _HELD == 0:
            _append(folder, held)
    _append(folder, held)
    for symbol in symbols:
        part = folder / f"{lean_file(symbol)}.part"
        part.rename(part.with_suffix(""))
    return written


def lean_file(symbol: str) -> str:
    """Return the name of a symbol's file; what a file cannot be called is percent-encoded."""
    return f"{quote(symbol, safe='')}.json"


def _lines(signals: Iterable[Received]) -> Iterator[tuple[str, str]]:
    latest, reached_us = Latest[Received](), 0
    for signal in signals:
        if signal.available_us < reached_us:
            raise ValueError(f"{signal.signal_id}: signals in the order of availability required; replay them by it")
        reached_us = signal.available_us
        before = latest.get(signal.item_key)
        if not latest.update(signal):
            continue
        state = latest.get(signal.item_key)
        named = state.tickers if state else ()
        for symbol in dict.fromkeys([*named, *(before.tickers if before else ())]):
            fields = _fields(signal.available_at, signal, state if state and symbol in named else None)
            yield symbol, json.dumps(fields, ensure_ascii=True, separators=(",", ":"))


def _fields(at: datetime, signal: Received, state: Received | None) -> dict[str, Any]:
    stands = state or signal
    return {
        "end_time": at.replace(tzinfo=None).isoformat(timespec="microseconds"),
        "action": "retract" if state is None else state.action.value,
        "label": "" if state is None or state.label is None else state.label.value,
        "score": 0.0 if state is None else state.score,
        "confidence": 0.0 if state is None else state.confidence,
        "item_key": signal.item_key,
        "revision": stands.revision,
        "signal_id": stands.signal_id,
        "headline": stands.headline,
    }


def _append(folder: Path, held: dict[str, list[str]]) -> None:
    for symbol, lines in held.items():
        with (folder / f"{lean_file(symbol)}.part").open("a", encoding="ascii", newline="\n") as file:
            file.write("".join(f"{line}\n" for line in lines))
    held.clear()
