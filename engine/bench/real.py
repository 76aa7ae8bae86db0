"""Real texts from a file, for runs through a real model."""

import json
from pathlib import Path

from earlybird.engine.bench.ours import drained
from earlybird.engine.bench.workload import BLOCK
from earlybird.engine.config import EngineConfig, ModelConfig
from earlybird.engine.engine import Engine
from earlybird.engine.errors import ConfigError
from earlybird.engine.text.assembly import Text
from earlybird.engine.types import Request


def requests_of(engine: Engine, path: Path) -> list[Request]:
    """Read texts as requests: one text per line, or JSON lines.

    JSON lines have `text` (or `headline`, as on the raw topics). Lines with nothing to read are left out. Raises
    ConfigError.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read, {error}") from None
    encoded = engine.encoder.encode([Text((_text(line),)) for line in lines if line.strip()])
    found = [Request(ticket, each.token_ids) for ticket, each in enumerate(encoded) if each is not None]
    if not found:
        raise ConfigError(f"{path}: no text in it")
    return found


def lengths_and_depths(model: str, path: Path) -> tuple[ModelConfig, list[int], list[int]]:
    """Return a model's sizes and quantiles of its texts' lengths and depths.

    BLOCK quantiles each of the token counts and of the exit depths under the model's own policy.
    """
    engine = Engine.load(EngineConfig(model=model, runner="packed", device="cpu"))
    requests = requests_of(engine, path)
    results = drained(engine.runner(), requests)
    lengths = sorted(len(request.token_ids) for request in requests)
    depths = sorted(verdict.exit_layer for verdict in results)
    places = [int((number + 0.5) / BLOCK * len(requests)) for number in range(BLOCK)]
    return engine.checkpoint.config, [lengths[place] for place in places], [depths[place] for place in places]


def _text(line: str) -> str:
    try:
        value = json.loads(line)
    except ValueError:
        return line
    text = (value.get("text") or value.get("headline") or "") if isinstance(value, dict) else line
    return text if isinstance(text, str) else ""
