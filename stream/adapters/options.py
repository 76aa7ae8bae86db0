"""librdkafka options: owned by this project, its defaults, and a user's own."""

from collections.abc import Mapping
from typing import Any, Literal

from earlybird.stream.adapters import credentials
from earlybird.stream.config.client_options import Endpoint, KafkaEndpoint, KafkaOptions
from earlybird.stream.errors import SettingsError

Options = dict[str, Any]
SCHEMA_REGISTRY = "schema.registry."
"""Beginning of the options that are a schema registry's, and not librdkafka's."""

Protocol = Literal["classic", "consumer"]

_READING: Options = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # reports an offset out of range as an event
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
}

# Each of these decides whether records are lost, duplicated or misplaced.
OWNED: Mapping[str, str] = {
    "bootstrap.servers": "it has a setting of its own",
    "metadata.broker.list": "it has a setting of its own, kafka.bootstrap_servers",
    "group.id": "it has a setting of its own",
    "group.protocol": "it has a setting of its own",
    "enable.auto.commit": "offsets are committed when outcomes are acknowledged",
    "auto.commit.enable": "offsets are committed when outcomes are acknowledged",
    "enable.auto.offset.store": "offsets are committed when outcomes are acknowledged",
    "auto.offset.reset": "librdkafka's default, latest, loses the records of new groups and partitions",
    "enable.partition.eof": "the end of what can be read is told, so that it can be committed",
    "isolation.level": "records of aborted transactions must not be read",
    "partition.assignment.strategy": "partitions are handed over one by one, by cooperative-sticky",
    "partitioner": "the default puts keys elsewhere than Java clients and Faust do",
    "enable.idempotence": "retries would double and reorder records",
    "enable.gapless.guarantee": "a failed delivery is produced again instead",
    "acks": "an outcome counts when every replica in sync has it",
    "request.required.acks": "an outcome counts when every replica in sync has it",
    "transactional.id": "it is made of the group and of the worker's name, the setting instance",
    "message.timeout.ms": "a delivery that times out can overtake an earlier one of its key",
    "delivery.timeout.ms": "a delivery that times out can overtake an earlier one of its key",
    "statistics.interval.ms": "the metrics are made of them",
    "stats_cb": "the metrics are made of them",
    "logger": "clients log through structlog",
    "error_cb": "clients report through structlog",
    "on_commit": "clients report through structlog",
    "on_delivery": "each record has its own receipt",
}


def kafka_options(overrides: KafkaOptions) -> Options:
    """Return a user's librdkafka options for any of our clients.

    Raises SettingsError for each option that this project owns, with the reason, and for a token function that is not
    there.
    """
    if taken := owned(overrides):
        raise SettingsError("Kafka options that cannot be passed through:\n  " + "\n  ".join(taken))
    ours = {name: value for name, value in overrides.items() if not name.startswith(SCHEMA_REGISTRY)}
    return credentials.resolved(ours)


def owned(overrides: KafkaOptions) -> list[str]:
    """Return a complaint about each option that this project owns."""
    return [f"{name}: {OWNED[name]}; was {overrides[name]!r}" for name in overrides if name in OWNED]


def client_options(endpoint: Endpoint) -> Options:
    """Return options for any client, the admin client included."""
    endpoint = KafkaEndpoint.of(endpoint)
    return {
        "client.id": "earlybird",
        # A broker that returns is found within a second; the default is up to ten seconds.
        "reconnect.backoff.max.ms": 1000,
        **kafka_options(endpoint.options),
        "bootstrap.servers": endpoint.bootstrap_servers,
    }


def consumer_options(endpoint: Endpoint, group: str, protocol: Protocol) -> Options:
    """Return options for a consumer of raw topics.

    Handover: no member reads a moving partition until its next owner hears of it, at a heartbeat. Measured on Kafka
    4.3.1, four partitions, a second member joining / leaving, longest gap of a moving partition:

        classic, heartbeat 3 s (librdkafka's default)     3.0 s / 2.0 s
        classic, heartbeat 300 ms (ours)                  1.0 s / 0.5 s   librdkafka joins at most once per second
        consumer, broker's heartbeat 5 s (its default)    1.1 s / 3.0 s
        consumer, broker's heartbeat 300 ms               0.2 s / 0.3 s

    With `consumer` the interval is the broker's group.consumer.heartbeat.interval.ms, which deploy/kafka sets (its
    minimum must be lowered too); the client cannot set it.
    """
    classic: Options = {
        "heartbeat.interval.ms": 300,
        "session.timeout.ms": 10_000,  # a killed member's partitions move after this; brokers refuse less than 6 s
    }
    return {
        **(classic if protocol == "classic" else {}),
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 100,
        # 28,000 headlines read ahead. With the client's 64 MiB a backlog took 100 MB more memory and was still growing.
        "queued.max.messages.kbytes": 8192,
        "fetch.queue.backoff.ms": 100,  # what is read ahead lasts for longer; the default is a second
        # Topics and partitions created after the start are noticed within this time; the default is five minutes.
        "topic.metadata.refresh.interval.ms": 5000,
        **client_options(endpoint),
        "group.id": group,
        "group.protocol": protocol,
        **({"partition.assignment.strategy": "cooperative-sticky"} if protocol == "classic" else {}),
        **_READING,
    }


def reader_options(endpoint: Endpoint, group: str, *, read_committed: bool = True) -> Options:
    """Return options for a reader that commits nothing by itself.

    librdkafka requires a `group`, even where it is never joined.
    """
    return {
        "fetch.wait.max.ms": 100,
        **client_options(endpoint),
        "group.id": group,
        **_READING,
        "isolation.level": "read_committed" if read_committed else "read_uncommitted",
    }


def producer_options(endpoint: Endpoint) -> Options:
    """Return options for a producer of signals and dead letters."""
    return {
        # Within half a millisecond, signals that exit together share a request: 125 instead of 149 us of CPU per text
        # without an engine (1 ms: 117), and fewer requests for the broker.
        "linger.ms": 0.5,
        "compression.type": "lz4",
        # The client's own default, set because the largest dead letter (about 700 KB) must stay below it.
        "message.max.bytes": 1_000_000,
        **client_options(endpoint),
        "partitioner": "murmur2_random",
        "enable.idempotence": True,
        "acks": "all",
        "message.timeout.ms": 0,  # no time-out: order per key holds over any outage
    }


def transaction_options(endpoint: Endpoint, transactional_id: str) -> Options:
    """Return options for a producer whose outcomes and offsets are committed together.

    Between two transactions in quick succession the client waits retry.backoff.ms for the markers of the first: 97 ms
    a transaction with its default of 100, 5 ms with this.
    """
    return {
        # The broker ends an older one, so that readers do not wait for a worker that died or hangs.
        "transaction.timeout.ms": 10_000,
        "retry.backoff.ms": 5,
        **producer_options(endpoint),
        "transactional.id": transactional_id,
    }
