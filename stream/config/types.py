"""Validated text types for settings."""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from earlybird.stream.feeds import registry

_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}", re.ASCII)
_BROKER = re.compile(r"(?:(?i:(?:sasl_)?(?:plaintext|ssl))://)?(?:\[[0-9a-fA-F:.%]+\]|[^\s:/\[\],]+)(?::(\d{1,5}))?")
_REDIS = ("redis://", "rediss://", "unix://")


def _topic(name: str) -> str:
    if not _TOPIC.fullmatch(name) or name in (".", ".."):
        raise ValueError("letters, digits, '.', '_' and '-' required, at most 249, as Kafka has it")
    return name


def group_name(name: str) -> str:
    """Return the name of a consumer group.

    Raises ValueError for one that cannot work: librdkafka aborts the process on a group of blanks.
    """
    if not 0 < len(name) <= 249 or name != name.strip() or not name.isprintable():
        raise ValueError("1 to 249 printable characters required, without blanks around them")
    return name


def _brokers(servers: str) -> str:
    for server in servers.split(","):
        found = _BROKER.fullmatch(server.strip())
        if not found or (found[1] is not None and not 0 < int(found[1]) < 65_536):
            raise ValueError("host:port,... required, with ports from 1 to 65535")
    return servers


def _redis(url: str) -> str:
    if not url.startswith(_REDIS):
        raise ValueError(f"{', '.join(_REDIS)} required at its beginning")
    if " " in url or not url.isprintable():  # urlsplit silently drops some of these
        raise ValueError("no blanks and no line ends allowed; in a password they are written %20, %0A, ...")
    try:
        _ = urlsplit(url).port
    except ValueError:  # not chained: its text may hold a part of the password
        raise ValueError("redis://[user:password@]host:port/db required, with a port up to 65535") from None
    return url


def _format(name: str) -> str:
    if name not in (*registry.OURS, *registry.names()):
        raise ValueError(f"one of {', '.join([*registry.OURS, *registry.names()])} required")
    if name not in registry.OURS:
        registry.parser(name)  # so that a broken entry point is a fault of the settings
    return name


class Group(BaseModel):
    """Base of the groups of settings: frozen; an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


DAY_MS = 86_400_000

GroupName = Annotated[str, AfterValidator(group_name)]
Milliseconds = Annotated[int, Field(gt=0, le=DAY_MS)]
MillisecondsOrOff = Annotated[int, Field(ge=0, le=DAY_MS)]
FormatName = Annotated[str, AfterValidator(_format)]
"""Format of a raw topic's records: our own, or one of stream.feeds.registry."""
TopicName = Annotated[str, AfterValidator(_topic)]
Brokers = Annotated[str, AfterValidator(_brokers)]
"""Bootstrap servers: host:port, separated by commas; librdkafka also takes PROTOCOL://host:port."""
RedisUrl = Annotated[str, AfterValidator(_redis)]
