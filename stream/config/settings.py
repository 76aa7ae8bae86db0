"""Every setting with its default and meaning; the only reader of the environment.

Names are the same everywhere: `kafka.bootstrap_servers` here is EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS in the
environment and `bootstrap_servers` under `[kafka]` in the `--config` file. The environment wins over the file.
"""

import argparse
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings import SettingsError as UnreadableVariable

from earlybird.stream.config.client_options import ClientOptions, KafkaEndpoint
from earlybird.stream.config.engine import Engine
from earlybird.stream.config.pull import Pull
from earlybird.stream.config.redis import Redis
from earlybird.stream.config.report import as_message, explain, misspelt, origin
from earlybird.stream.config.secrets import tree_with_secrets, variables_with_secrets
from earlybird.stream.config.symbols import Symbols
from earlybird.stream.config.topics import Topics
from earlybird.stream.config.tree import merged, without, without_unreadable
from earlybird.stream.config.types import (
    Brokers,
    Group,
    GroupName,
    Milliseconds,
    MillisecondsOrOff,
)
from earlybird.stream.config.views import Views
from earlybird.stream.errors import SettingsError

PREFIX = "EARLYBIRD_"
CONFIG_VARIABLE = "EARLYBIRD_CONFIG"
"""Variable that names the settings file when `--config` does not."""


class Kafka(Group):
    """Connection to the brokers."""

    bootstrap_servers: Brokers = Field(default="127.0.0.1:9092", description="brokers to start from, host:port,...")
    group_protocol: Literal["classic", "consumer"] = Field(
        default="classic", description="classic (cooperative) or the broker-side protocol of Kafka 4"
    )
    options: ClientOptions = Field(
        default_factory=dict,
        repr=False,
        description="librdkafka options (TLS, SASL, ...); in the environment `_` stands for `.`: "
        "EARLYBIRD_KAFKA__OPTIONS__SASL_MECHANISM",
    )

    @property
    def endpoint(self) -> KafkaEndpoint:
        return KafkaEndpoint(self.bootstrap_servers, self.options)


class Limits(Group):
    """Limits on what is read, and on its age."""

    max_in_flight: PositiveInt = Field(default=1_024, description="most texts that are read and not yet acknowledged")
    max_record_bytes: PositiveInt = Field(
        default=1_048_576, description="largest raw record, in bytes; a larger one is a dead letter"
    )
    max_age_s: Annotated[float, Field(gt=0, le=10**10)] | None = Field(
        default=None,
        description="largest age at ingestion, in seconds; older items are dead letters (stale); none: no limit",
    )
    shed_after_ms: MillisecondsOrOff = Field(
        default=0,
        description="largest time from ingestion to consumption, in ms; older texts are dead letters (shed); 0: off",
    )
    deadline_ms: MillisecondsOrOff = Field(
        default=0,
        description="largest time from consumption to exit, in ms; then a text exits after its next layer; 0: off",
    )


class Timing(Group):
    """Intervals and time-outs."""

    poll_timeout_ms: Milliseconds = Field(default=10, description="longest wait for records in one poll, in ms")
    commit_interval_ms: Milliseconds = Field(default=50, description="time between two commits of offsets, in ms")
    transaction_interval_ms: Milliseconds = Field(
        default=100, description="exactly_once: least time between two transactions, in ms"
    )
    heartbeat_interval_ms: Milliseconds = Field(default=1_000, description="time between two heartbeats, in ms")
    drain_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=15.0, description="time for texts in flight at shutdown, in seconds; the next owner does the rest"
    )
    revoke_timeout_ms: Milliseconds = Field(
        default=500, description="time for texts in flight of a revoked partition, in ms; its next owner does the rest"
    )


class Http(Group):
    """Address of the health and metrics endpoints."""

    host: str = Field(
        default="127.0.0.1",
        description="address of /healthz, /readyz and /metrics; 0.0.0.0 in a pod",
    )
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(default=9464, description="their port; 0: any free one")


class Log(Group):
    """Level and format of the log on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="log level")
    format: Literal["console", "json"] = Field(
        default="console", description="console for people, json for one object per line"
    )


class Settings(Group):
    """All settings of one process; immutable, built with `load`."""

    model: str = Field(default="bundled", min_length=1, description="the bundled model, or a model folder")
    policy: str | None = Field(
        default=None, description="exit policy, e.g. cwb:delta=0.3,window=2; none: the model's own"
    )
    group: GroupName = Field(default="earlybird", description="consumer group")
    delivery: Literal["at_least_once", "exactly_once"] = Field(
        default="at_least_once",
        description="exactly_once: outcomes and offsets in Kafka transactions; readers see them at the commit",
    )
    instance: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="name of this worker, the same after a restart and no other's; exactly_once needs it. "
        "none: that of kafka.options.group.instance.id",
    )
    commit_map: bool = Field(
        default=True,
        description="commit metadata lists what is finished above the offset; off: it is repeated after a crash",
    )
    headlines: bool = Field(
        default=False,
        description="signals carry headline (its first 200 characters) and url; off: a feed's terms may forbid it",
    )
    kafka: Kafka = Kafka()
    topics: Topics = Topics()
    symbols: Symbols = Symbols()
    redis: Redis = Redis()
    engine: Engine = Field(default_factory=Engine)
    limits: Limits = Limits()
    timing: Timing = Timing()
    http: Http = Http()
    pull: Pull = Pull()
    views: Views = Views()
    log: Log = Log()


def load(path: Path | None = None) -> Settings:
    """Load settings from environment and TOML file; raises SettingsError that names every fault."""
    settings, faults = examined(path)
    if faults:
        raise SettingsError(as_message(faults))
    return settings


def examined(path: Path | None = None) -> tuple[Settings, list[str]]:
    """Return settings and every fault; faulty ones get defaults, so the rest can be checked."""
    named = os.environ.get(CONFIG_VARIABLE)
    path = path or (Path(named) if named else None)
    faults = misspelt(os.environ, Settings, PREFIX, {CONFIG_VARIABLE})
    tree = {} if path is None else _read(path, faults)
    tree = merged(tree, _environment(faults))
    while True:
        try:
            return Settings.model_validate(tree), faults
        except ValidationError as error:
            faults += explain(error, Settings, PREFIX, path, os.environ)
            tree = without(tree, [fault["loc"] for fault in error.errors(include_url=False)])


def variable_of(name: str) -> str:
    """Return in parentheses the variable that sets this setting; empty if none does."""
    return origin(PREFIX + name.upper(), {variable.upper() for variable in os.environ})


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Add `--config FILE` to a command's parser; pass its value to `load`."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help=f"TOML file of settings (default: ${CONFIG_VARIABLE}, else none)"
    )


def _read(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"{path}: {error.strerror}")
        return {}
    except ValueError as error:  # not TOML, or not UTF-8
        faults.append(f"{path}: {error}")
        return {}
    return tree_with_secrets(tree, faults)


def _environment(faults: list[str]) -> dict[str, Any]:
    source = EnvSettingsSource(
        cast(type[BaseSettings], Settings),  # the source reads only the fields
        case_sensitive=False,
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
    )
    source.env_vars = variables_with_secrets(source.env_vars, PREFIX, faults)
    while True:
        try:
            return source()
        except UnreadableVariable as error:
            # A list or table is not valid JSON; the cause names the position.
            detail = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
            faults.append(f"environment: {detail}; lists and tables are written as JSON")
            source.env_vars = without_unreadable(source.env_vars, str(error), PREFIX)


def child_environment(inherited: tuple[str, ...], **variables: str) -> dict[str, str]:
    """Return this process's environment for a child with settings of its own.

    Of our variables it keeps only those whose names begin with one of `inherited` (`engine` keeps
    EARLYBIRD_ENGINE__...), then it adds `variables` (`http__port="0"`).
    """
    kept = tuple(PREFIX + name.upper() for name in inherited)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(PREFIX) or name.startswith(kept)
    }
    return environment | {PREFIX + name.upper(): value for name, value in variables.items()}
