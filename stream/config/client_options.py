"""Brokers and librdkafka options: as settings, a file nests their dotted names, variables use underscores."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator

TokenFunction = Callable[[str], tuple[Any, ...]]
"""Function from sasl.oauthbearer.config to token and expiry in epoch seconds."""

KafkaOptions = Mapping[str, str | int | float | bool | TokenFunction]
"""librdkafka options that a user sets, and oauth_cb."""


@dataclass(frozen=True, slots=True)
class KafkaEndpoint:
    """Brokers, and the librdkafka options that reach them.

    Where one is wanted, an address alone will do.
    """

    bootstrap_servers: str
    options: KafkaOptions = field(default_factory=dict, repr=False)  # may hold passwords

    @staticmethod
    def of(endpoint: "Endpoint", options: KafkaOptions | None = None) -> "KafkaEndpoint":
        """Return the endpoint with further options."""
        if isinstance(endpoint, str):
            return KafkaEndpoint(endpoint, options or {})
        return KafkaEndpoint(endpoint.bootstrap_servers, {**endpoint.options, **options}) if options else endpoint


Endpoint = KafkaEndpoint | str


def _client_options(given: object) -> object:
    """Flatten nested names into librdkafka's dotted ones; TOML nests them, variables use underscores."""
    return dict(_dotted(given)) if isinstance(given, Mapping) else given


def _dotted(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        # log_level is the one name with an underscore that a file or environment can set.
        path = prefix + (name if name.lower() == "log_level" else name.lower().replace("_", "."))
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{path}.")
        elif isinstance(value, str | int | float):
            yield path, str(value).lower() if isinstance(value, bool) else str(value)
        else:
            yield path, value  # for example a list: pydantic rejects it and names it


ClientOptions = Annotated[dict[str, str], BeforeValidator(_client_options)]
