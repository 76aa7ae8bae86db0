"""A model's sizes as text, and back."""

import dataclasses
import json

from earlybird.engine.config import AdapterConfig, ModelConfig


def config_to_json(config: ModelConfig) -> str:
    """One JSON object."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def config_from_json(text: str) -> ModelConfig:
    """Inverse of config_to_json."""
    fields = json.loads(text)
    if fields.get("adapters"):
        fields["adapters"] = AdapterConfig(**fields["adapters"])
    return ModelConfig(**fields)
