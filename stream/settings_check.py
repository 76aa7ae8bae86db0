"""Settings against those who take them: what a start would refuse, found before a model is loaded or a server asked."""

from engine.config import EngineConfig
from stream.adapters.options import kafka_options
from stream.settings import Settings
from stream.stage import open_cache


def check(settings: Settings) -> None:
    """Raises SettingsError and the engine's ConfigError, as the start would."""
    engine_config(settings)
    kafka_options(settings.kafka.options)
    open_cache(settings).close()


def engine_config(settings: Settings) -> EngineConfig:
    """What the engine is asked for: its settings without the two that are the stage's own. Raises ConfigError."""
    wanted = settings.engine.model_dump(exclude={"threads", "feeders"})
    return EngineConfig(model=settings.model, policy=settings.policy, **wanted)
