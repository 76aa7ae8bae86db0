"""Comparison of packed slots with a padded batch loop, as lines."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text


def schedule_lines(compared: Mapping[str, Any]) -> list[Text]:
    """Draw a comparison in 80 columns: a line for each schedule, and a sentence.

    Without a comparison there are no lines.
    """
    if not compared:
        return []
    slots, batches, size = compared["slots"], compared["batches"], compared["size"]
    texts = f"the same {compared['texts']} texts at once, full speed"
    more, longer = batches["token_passes"] / slots["token_passes"], batches["mean_ms"] / max(1e-9, slots["mean_ms"])
    return [
        Text(f"{'passes':>6} {'token-passes':>12} {'mean wait':>9} {'longest':>8}  {texts}", "dim"),
        _line(slots, f"{size} slots, refilled one by one", "green"),
        _line(batches, f"padded batches of {size}, until all are done", "red"),
        Text(f"Padded batches compute {more:.1f} times as much; their texts wait {longer:.1f} times as long."),
    ]


def _line(run: Mapping[str, Any], name: str, colour: str) -> Text:
    mean, longest = f"{run['mean_ms']:.0f} ms", f"{run['longest_ms']:.0f} ms"
    return Text(f"{run['passes']:>6} {run['token_passes']:>12,} {mean:>9} {longest:>8}  ").append(name, colour)
