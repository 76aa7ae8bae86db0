"""Requests to a broker: retried until it answers, ended at once when it refuses."""

import time
from collections.abc import Callable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ClusterMetadata

from earlybird.stream.adapters.clients import DENIED, MISSING, ClientLog
from earlybird.stream.errors import SourceError

T = TypeVar("T")

REQUEST_TIMEOUT_S = 10.0  # time-out of a request with all its retries
_FIRST_TRY_S = 0.5  # time until a refusal is seen: librdkafka reports it by callback while the call keeps waiting
_AGAIN_S = 0.1
_MOST_TRY_S = 5.0  # a large cluster's answer may take long


def retried(
    client: Consumer | AdminClient,
    notes: ClientLog,
    request: Callable[[float], T],
    timeout_s: float = REQUEST_TIMEOUT_S,
    given_up: Callable[[], bool] = lambda: False,
) -> T:
    """Return a broker's answer to `request`, retried until one comes.

    `request` takes a time-out in seconds. Raises SourceError with the cause: at once where the broker refuses us;
    where none answers, after `timeout_s` or once the caller has `given_up`.
    """
    give_up_at, try_s = time.monotonic() + timeout_s, _FIRST_TRY_S
    while True:
        try:
            answer = request(try_s)
            notes.reached()
            return answer
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
        client.poll(0)  # the callbacks bring the reason
        notes.raise_failure()
        if error.code() in DENIED or error.fatal():
            raise notes.refusal(error)
        left_s = give_up_at - time.monotonic()
        if left_s <= 0 or given_up():
            reason = notes.unreachable or error.str()
            raise SourceError(f"no Kafka at {notes.bootstrap_servers}, tried for {timeout_s:.0f} s: {reason}")
        time.sleep(min(_AGAIN_S, left_s))
        try_s = min(try_s * 2, _MOST_TRY_S, max(left_s, _AGAIN_S))


def partitions_of(
    consumer: Consumer,
    notes: ClientLog,
    topic: str,
    timeout_s: float = REQUEST_TIMEOUT_S,
    *,
    awaited: bool = True,
    given_up: Callable[[], bool] = lambda: False,
) -> list[int]:
    """Return the partition numbers of a topic.

    An `awaited` topic may still be created meanwhile. `consumer` has no assignment yet. Raises SourceError where the
    topic does not exist or may not be described.
    """
    give_up_at = time.monotonic() + timeout_s

    def request(try_s: float) -> ClusterMetadata:
        known: ClusterMetadata = consumer.list_topics(topic, timeout=try_s)
        return known

    while True:
        left_s = max(0.0, give_up_at - time.monotonic())
        known = retried(consumer, notes, request, left_s, given_up).topics[topic]
        if known.error is None and known.partitions:
            return sorted(known.partitions)
        code = None if known.error is None else known.error.code()
        if known.error is not None and code in DENIED:
            raise notes.refusal(known.error, topic)
        coming = code in (None, KafkaError.LEADER_NOT_AVAILABLE) or (awaited and code in MISSING)
        if not coming or given_up() or time.monotonic() >= give_up_at:
            raise SourceError(f"{notes.bootstrap_servers}: there is no topic {topic}: earlybird topics create")
        time.sleep(_AGAIN_S)
