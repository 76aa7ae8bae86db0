"""The comparison of packed slots with a padded batch loop, in words and as a table."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text


def schedule_lines(compared: Mapping[str, Any]) -> list[Text]:
    """Draw a comparison: one line for each schedule, and a sentence. Nothing without a comparison."""
    if not compared:
        return []
    slots, batches, size = compared["slots"], compared["batches"], compared["size"]
    head = f"the same {compared['texts']} texts at once, the same model, full speed"
    lines = [Text(f"{head:<60}{'passes':>7}{'token-passes':>14}{'mean wait':>12}{'longest':>10}", "dim")]
    lines += [_line(f"{size} slots, refilled one by one, no padding", slots, "green")]
    lines += [_line(f"padded batches of {size}, each waits for its deepest text", batches, "red")]
    more, longer = batches["token_passes"] / slots["token_passes"], batches["mean_ms"] / max(1e-9, slots["mean_ms"])
    said = f"A padded batch loop would have computed {more:.1f} times as much"
    lines.append(Text(f"{said}; its texts would have waited {longer:.1f} times as long."))
    return lines


def _line(name: str, run: Mapping[str, Any], colour: str) -> Text:
    figures = f"{run['passes']:>7}{run['token_passes']:>14,}{run['mean_ms']:>9.0f} ms{run['longest_ms']:>7.0f} ms"
    return Text(f"{name:<60}", colour).append(figures, "default")
