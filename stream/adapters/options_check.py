"""Check of librdkafka options by librdkafka: creates every client without connecting."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from earlybird.stream.adapters import credentials
from earlybird.stream.adapters.options import (
    OWNED,
    Options,
    Protocol,
    client_options,
    consumer_options,
    owned,
    producer_options,
    transaction_options,
)
from earlybird.stream.config.client_options import KafkaEndpoint, KafkaOptions
from earlybird.stream.errors import SettingsError

_CREATED = re.compile(r"^Failed to create [\w ]+: ")


def kafka_faults(
    group: str, protocol: Protocol, overrides: KafkaOptions, transactional_id: str | None = None
) -> list[str]:
    """Return every option that cannot work, with the client's reason."""
    free = {name: value for name, value in overrides.items() if name not in OWNED}
    if credentials.PASSWORD_FILE in free:
        free.setdefault("sasl.password", "unread")  # a file that cannot be read is a fault of its own, and reported
    try:
        free = credentials.resolved(free)
    except SettingsError as error:
        return [f"kafka.options: {error}"]
    clients: list[tuple[Callable[[Any], object], Callable[[Options], Options]]] = [
        (Consumer, lambda given: consumer_options(KafkaEndpoint("", given), group, protocol)),
        (Producer, lambda given: producer_options(KafkaEndpoint("", given))),
        (AdminClient, lambda given: client_options(KafkaEndpoint("", given))),
    ]
    if transactional_id is not None:
        clients.append((Producer, lambda given: transaction_options(KafkaEndpoint("", given), transactional_id)))
    found = [fault for make, options in clients for fault in _faults(make, options, free)]
    return [f"kafka.options: {fault}" for fault in dict.fromkeys([*owned(overrides), *found])]


def _faults(
    make: Callable[[Any], object], options: Callable[[Options], Options], overrides: Mapping[str, Any]
) -> Iterator[str]:
    """Yield every fault that one client reports.

    librdkafka stops at the first fault: that option is left out, and the client is created again.
    """
    left = dict(overrides)

    def complaint(given: Mapping[str, Any]) -> str | None:
        settings = options(dict(given))
        del settings["bootstrap.servers"]
        try:
            make(settings | {"log_level": 0})
        except KafkaException as error:
            return _CREATED.sub("", error.args[0].str())
        return None

    while reason := complaint(left):
        name = _culprit(left, reason, complaint)
        if name is None:
            yield reason
            return
        yield (reason if name in reason else f"{name}: {reason}") + _file(name, str(left[name]))
        del left[name]


def _culprit(given: Mapping[str, Any], reason: str, complaint: Callable[[Mapping[str, Any]], str | None]) -> str | None:
    """Return the option that causes `reason`, None if unknown.

    It is the one that the reason names; else, since a name may have an alias, the one without which the reason
    disappears.
    """
    if named := [name for name in given if name in reason]:
        return max(named, key=len)
    others = ((name, {other: given[other] for other in given if other != name}) for name in given)
    return next((name for name, rest in others if complaint(rest) != reason), None)


def _file(name: str, value: str) -> str:
    """Return the file's path for a complaint, since librdkafka omits it."""
    if not name.endswith(".location"):
        return ""
    return f", was {value}" + ("" if Path(value).exists() else " (there is no such file)")
