"""Schema registry, by confluent_kafka's client (extra `registry`): its options, its answers, registration.

Its options stand among the Kafka options, as Java clients have them: schema.registry.url, and what else begins with
schema.registry. (basic.auth.user.info, ssl.ca.location, ...).
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from earlybird.stream import extras
from earlybird.stream.adapters.options import SCHEMA_REGISTRY
from earlybird.stream.adapters.rate_limit import RateLimit
from earlybird.stream.errors import RegistryAway, SettingsError, StreamError
from earlybird.stream.observability.logging import get_logger

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

log = get_logger(__name__)

URL = SCHEMA_REGISTRY + "url"
SchemaType = Literal["JSON", "AVRO"]
Compatibility = Literal["FORWARD", "NONE"]
"""FORWARD: a version adds optional fields, which readers of older ones ignore. NONE: it may also add values."""
T = TypeVar("T")

_REGISTRY = "schema registry"
_TRY_S = 1.0  # the consumer's thread waits for an answer, and the group for the consumer
_AGAIN_S = 1.0
_NOT_THERE = range(40400, 40500)  # subject, version or schema; a wrong URL answers 404 without such a code


class NotRegistered(LookupError):
    """The registry's answer that it has no such schema or subject."""


class TopicSchema(NamedTuple):
    """A topic with the schema of its values."""

    topic: str
    schema: str
    compatibility: Compatibility | None = None  # None: the registry's own, for topics that others write to
    kind: SchemaType = "JSON"


def registry_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the registry client's options; empty without a URL."""
    found = {
        name.removeprefix(SCHEMA_REGISTRY): value for name, value in options.items() if name.startswith(SCHEMA_REGISTRY)
    }
    return found if "url" in found else {}


def registry_faults(options: Mapping[str, Any], needed: str = "") -> list[str]:
    """Return why the options cannot work; `needed`: the setting that asks for a registry."""
    if needed and not registry_options(options):
        return [f"kafka.options.{URL}: required by {needed}; was none"]
    try:
        open_client(options)
    except SettingsError as error:
        return [str(error)]
    return []


def open_client(options: Mapping[str, Any]) -> "SchemaRegistryClient | None":
    """Open the client; None without a URL. It connects at its first request.

    Raises SettingsError for options that cannot work, and for a missing extra.
    """
    if not (found := registry_options(options)):
        return None
    try:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        return SchemaRegistryClient.new_client({"timeout": _TRY_S, **found, "max.retries": 0})
    except ModuleNotFoundError as error:
        raise SettingsError(f"kafka.options.{URL}: needs {error.name}: {extras.install_hint('registry')}") from None
    except Exception as error:  # theirs: of the types ValueError, TypeError, OSError, ssl.SSLError
        raise SettingsError(f"kafka.options.{SCHEMA_REGISTRY}*: {error}") from None


class Patience:
    """Requests to a registry that may be away, made at most once per second then.

    Not thread-safe.
    """

    def __init__(self, url: str, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.awaited = ""  # what is waited for
        self._url, self._monotonic = re.sub("//[^/@]*@", "//", url), monotonic  # without a password
        self._again_s, self._log = float("-inf"), RateLimit(monotonic)

    def ask(self, request: Callable[[], T]) -> T:
        """Return the registry's answer.

        Raises NotRegistered where that is its answer, RegistryAway while it gives none.
        """
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        if self._monotonic() < self._again_s:
            raise RegistryAway(f"{self._url}: {self.awaited}")
        try:
            answer = request()
        except SchemaRegistryError as error:
            if error.error_code not in _NOT_THERE:
                raise self._away(str(error)) from None
            self._back(to="" if self.awaited == _REGISTRY else self.awaited)
            raise NotRegistered(error.error_message) from None
        except Exception as error:  # those of the HTTP client and of a proxy's page
            raise self._away(f"{type(error).__name__}: {error}") from None
        self._back()
        return answer

    def wait(self, awaited: str) -> bool:
        """Show what is waited for until the next request; return whether to log it."""
        self.awaited, self._again_s = awaited, self._monotonic() + _AGAIN_S
        return self._log.allows(awaited)

    def _away(self, reason: str) -> RegistryAway:
        if self.wait(_REGISTRY):
            log.warning("registry.awaited", url=self._url, reason=reason)
        return RegistryAway(f"{self._url}: {reason}")

    def _back(self, to: str = "") -> None:
        if self.awaited == _REGISTRY:
            log.info("registry.back", url=self._url)
        self.awaited = to


def register(options: Mapping[str, Any], schemas: Sequence[TopicSchema]) -> dict[str, int]:
    """Register the schemas as TOPIC-value; return the id of each subject.

    The compatibility of a subject is set first. A schema that is already registered keeps its id. Raises StreamError
    where the registry refuses or does not answer.
    """
    client = open_client({**options, SCHEMA_REGISTRY + "timeout": 10.0})
    assert client is not None, "no URL. This is a bug."
    with client:
        return register_with(client, schemas)


def register_with(client: "SchemaRegistryClient", schemas: Sequence[TopicSchema]) -> dict[str, int]:
    """Register the schemas by an open client; see `register`."""
    from confluent_kafka.schema_registry import ConfigCompatibilityLevel, Schema, ServerConfig

    ids: dict[str, int] = {}
    subject = ""
    try:
        for topic, schema, compatibility, kind in schemas:
            subject = f"{topic}-value"
            if compatibility is not None:
                level = ServerConfig(compatibility=ConfigCompatibilityLevel[compatibility])
                _set_level(partial(client.set_config, subject, level))
            ids[subject] = client.register_schema(subject, Schema(schema, kind))
    except Exception as error:  # theirs, and those of the HTTP client below
        raise StreamError(f"schema registry: {subject}: {type(error).__name__}: {error}") from error
    return ids


def _set_level(request: Callable[[], object]) -> None:
    """Make the request, unless the subject is not there yet.

    Some registries know none before its first schema, which any level allows.
    """
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    try:
        request()
    except SchemaRegistryError as error:
        if error.error_code not in _NOT_THERE:
            raise
