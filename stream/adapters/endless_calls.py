"""A limit for calls of librdkafka that ignore their own."""

from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException

from earlybird.stream.adapters.clients import call_with_timeout


def end_within(timeout_s: float, send_offsets: Callable[[], None]) -> None:
    """Add offsets to a transaction; raises a fatal KafkaException after `timeout_s`.

    The call waits for minutes where the group's coordinator has gone and another is in its place, whatever time-out it
    was given (librdkafka issues 5456 and 5511). Only a new client asks for the successor.
    """
    try:
        call_with_timeout(timeout_s, send_offsets)
    except TimeoutError:
        reason = "the client does not find the group's coordinator"
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, reason, fatal=True)) from None
