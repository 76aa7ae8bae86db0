"""JSON form of a model's sizes."""

import dataclasses
import json

from earlybird.engine.config import AdapterConfig, ModelConfig


def config_to_json(config: ModelConfig) -> str:
    """Serialise a model's sizes as one JSON object."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def config_from_json(text: str) -> ModelConfig:
    """Parse the result of config_to_json."""
    fields = json.loads(text)
    if fields.get("adapters"):
        fields["adapters"] = AdapterConfig(**fields["adapters"])
    return ModelConfig(**fields)
