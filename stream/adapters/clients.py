"""Logging, errors and shutdown shared by all Kafka clients.

librdkafka's log lines and errors go to structlog, at a limited rate.
"""

import re
import threading
import time
from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from earlybird.stream.adapters.options import Protocol
from earlybird.stream.adapters.probe import protocol_of
from earlybird.stream.adapters.rate_limit import QUIET_S, RateLimit
from earlybird.stream.config.client_options import Endpoint, KafkaEndpoint
from earlybird.stream.errors import SettingsError, SourceError
from earlybird.stream.observability.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")

CLOSE_TIMEOUT_S = 5.0
_LEAVING_TURN_S = 0.02
_SHARED_OUT_S = 1.0  # for the others to join again; then the client leaves without the leader's answer, or fails to

Headers = tuple[tuple[str, bytes | None], ...]
_headers: Callable[[Message], Headers | None] = methodcaller("headers")

# Retrying does not help with these: wrong password, wrong certificate, no permission.
DENIED = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
    }
)
# Of these, the ones about a connection: to a client that has worked they also come from a token that runs out while the
# client authenticates again, or from a broker that starts.
_CONNECTION = frozenset({KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED})
UNREACHABLE = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE})
# Errors of a commit during a rebalance or a move of the coordinator; the next commit repairs it.
PASSING = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError._WAIT_COORD,
        KafkaError._ASSIGNMENT_LOST,
    }
)
MISSING = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})

# librdkafka's log line for a connection closed before a broker's first answer: [thrd:ssl://host:port/name].
_CLOSED = re.compile(
    r"\[thrd:(?:(?P<scheme>\w+)://)?(?P<address>[^/]+:\d+)/.*(?:Disconnected|Send failed).*in state "
    r"(?P<state>APIVERSION_QUERY|SSL_HANDSHAKE|UP)\)"
)
_CLOSED_OFTEN = 3  # in a row; a broker that shuts down also closes a connection, but then accepts none


def fatal(error: KafkaError) -> bool:
    """Return whether the client can never work again.

    librdkafka's event has an error code of its own for it and sets no flag.
    """
    return error.fatal() or error.code() == KafkaError._FATAL


def headers_of(message: Message) -> Headers:
    """Return a record's headers; none when a name is not UTF-8.

    confluent-kafka then returns a result and raises an error at once, which a plain call may not notice. It must not
    be called again, since its second result holds null pointers.
    """
    try:
        return tuple(_headers(message) or ())
    except SystemError:
        place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
        log.warning("record.headers_unreadable", **place, hint="the name of a header is not UTF-8")
        return ()


def open_consumer(settings: Mapping[str, object], notes: "ClientLog") -> Consumer:
    """Create a consumer that reports to `notes`; raises SettingsError for options that librdkafka refuses."""
    try:
        return Consumer({**settings, "logger": notes, "error_cb": notes.error})
    except KafkaException as error:
        raise SettingsError(f"Kafka options: {error.args[0].str()}") from None


def call_with_timeout(timeout_s: float, call: Callable[[], T]) -> T:
    """Run `call` on another thread and return or raise its outcome.

    Raises TimeoutError after `timeout_s` and abandons the thread: some of librdkafka's calls have no time-out of
    their own.
    """
    outcome: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="within", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if raised:
        raise raised[0]
    if not outcome:
        raise TimeoutError
    return outcome[0]


def close_consumer(consumer: Consumer, client: str, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
    """Close a consumer that is in no group, within `timeout_s`; return whether it closed."""
    return _ended(consumer.close, client, timeout_s)


def leave_group(consumer: Consumer, client: str, protocol: Protocol, timeout_s: float = CLOSE_TIMEOUT_S) -> bool:
    """Give all partitions up, leave the group and close, within `timeout_s`; return whether it closed.

    The callbacks of a rebalance under way run first, while the client still works. One that is closing answers no
    request for committed offsets and sometimes no call that changes the assignment (librdkafka issues 4041 and 4884),
    which waits with Python's lock held: the whole process would stand still. One that closes while its group is shared
    out (classic protocol) does not leave it: the others would wait for its session to end.
    """

    def leave() -> None:
        began_s = time.monotonic()
        try:
            consumer.unsubscribe()
            while (
                consumer.poll(_LEAVING_TURN_S) is not None
                or consumer.assignment()
                or (protocol == "classic" and consumer.memberid())
            ):
                if time.monotonic() > began_s + (timeout_s if consumer.assignment() else _SHARED_OUT_S):
                    break
        except KafkaException as error:
            if not fatal(error.args[0]):  # else its group has removed it, and there is nothing to give up
                raise
        finally:
            consumer.close()

    return _ended(leave, client, timeout_s)


def _ended(close: Callable[[], None], client: str, timeout_s: float) -> bool:
    """Return whether `close` came back in time.

    librdkafka sometimes never returns from leaving a group that has removed it; the membership then ends by the
    session timeout.
    """
    try:
        call_with_timeout(timeout_s, close)
    except TimeoutError:
        log.warning("client.not_left", client=client, waited_s=timeout_s, hint="its group goes by the session timeout")
        return False
    return True


class ClientLog:
    """Logger and error callback of one client; runs on the thread that polls it.

    `failure` is set once the client can never work: it was refused before it ever worked, or reported itself broken.
    `unreachable` is the last reason why no broker was reached.
    """

    def __init__(
        self,
        name: str,
        endpoint: Endpoint,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        group: str | None = None,
    ) -> None:
        self.name, self.bootstrap_servers, self.group = name, KafkaEndpoint.of(endpoint).bootstrap_servers, group
        self.failure: str | None = None
        self.unreachable: str | None = None
        self.worked = False  # set by the owner after a record, an assignment or an acknowledgement
        self._reached = False  # a broker has answered, so the security protocol matches
        self._closed: tuple[str, int, float] = ("", 0, 0.0)  # address, closed connections in a row, time of the last
        self.missing_topics: set[str] = set()  # the owner removes those that it has found
        self._monotonic = monotonic
        self._limit = RateLimit(monotonic)

    def denies(self, error: KafkaError) -> bool:
        """Return whether this error lasts.

        Permissions on a group count only for a client that has one: librdkafka looks for the coordinator of its
        `group.id` even if the group is never joined. A connection that is refused after it worked is tried again.
        """
        passing = self.worked and error.code() in _CONNECTION
        return error.code() in DENIED and not passing and not self._about_unused_group(error)

    def _about_unused_group(self, error: KafkaError) -> bool:
        return self.group is None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED

    def due(self, kind: str) -> bool:
        """Return whether a line of this kind may be logged now."""
        return self._limit.allows(kind)

    def missing(self, topic: str) -> None:
        """Record that a topic to read does not exist; librdkafka reports it once."""
        self.missing_topics.add(topic)
        if self.due(f"topic {topic}"):
            log.warning("topic.awaited", topic=topic, hint="earlybird topics create")

    def log(self, level: int, template: str, *parts: object) -> None:
        """Log a line of librdkafka; the signature is that of logging.Logger.log.

        The parts are facility, client and text.
        """
        facility, text = str(parts[0]) if parts else "", str(parts[-1]) if parts else template
        if facility == "FAIL" and not (self._reached or self.worked or self.failure):
            self._look_for_mismatch(text)
        # FAIL and ERROR: error() reports them. GETPID: normal while a cluster starts.
        quiet = facility in ("FAIL", "ERROR") or (facility == "GETPID" and text.endswith("retrying"))
        if quiet or "will be ignored by this" in text:
            log.debug("client.log", client=self.name, facility=facility, text=text)
        elif self.due(facility):
            log.log(level, "client.log", client=self.name, facility=facility, text=text)

    def error(self, error: KafkaError) -> None:
        """Handle an error, as librdkafka's error callback."""
        code, text = error.code(), error.str()
        if self._about_unused_group(error):
            return
        if fatal(error) or (code in DENIED and not self.worked):
            self.failure = str(self.refusal(error))
            log.error("client.failed", client=self.name, brokers=self.bootstrap_servers, reason=text)
        elif code in DENIED:
            if self.due("denied"):
                log.error("client.denied", client=self.name, brokers=self.bootstrap_servers, reason=text)
        elif code in UNREACHABLE and self.failure is None:
            if code != KafkaError._ALL_BROKERS_DOWN or self.unreachable is None:
                self.unreachable = text
            if self.due("unreachable"):
                log.warning("broker.awaited", client=self.name, brokers=self.bootstrap_servers, reason=text)
        elif code not in UNREACHABLE and self.due(error.name()):
            log.warning("client.error", client=self.name, error=error.name(), reason=text)

    def refusal(self, error: KafkaError, topic: str | None = None) -> SourceError:
        """Return a SourceError that names what was refused: group, topic or client."""
        what = (
            f"group {self.group}"
            if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
            else topic and f"topic {topic}"
        )
        return SourceError(f"{self.bootstrap_servers}: {what + ': ' if what else ''}{error.name()}: {error.str()}")

    def raise_failure(self) -> None:
        """Raise SourceError once the client can never work."""
        if self.failure is not None:
            raise SourceError(f"Kafka refuses us: {self.failure}")

    def reached(self) -> None:
        """Record that a broker has answered."""
        self._reached = True

    def _look_for_mismatch(self, text: str) -> None:
        """Detect a listener with another security protocol than ours.

        librdkafka reports it as a lost connection and reconnects for ever.
        """
        found = _CLOSED.search(text)
        if found is None:
            self._closed = ("", 0, 0.0)
            return
        address, now_s = found["address"], self._monotonic()
        before, count, at_s = self._closed
        count = count + 1 if before == address and now_s - at_s < QUIET_S else 1
        self._closed = (address, count, now_s)
        if count % _CLOSED_OFTEN == 0 and (reason := _mismatch(found)):
            self.failure = f"{address}: {reason}; see kafka.options.security.protocol"
            log.error("client.failed", client=self.name, brokers=self.bootstrap_servers, reason=self.failure)


def _mismatch(closed: re.Match[str]) -> str | None:
    if closed["state"] == "UP":
        return "it closes the connection at our first request, as a listener does that wants SASL"
    ours, theirs = "TLS" if "ssl" in (closed["scheme"] or "") else "plain Kafka", protocol_of(closed["address"])
    return None if theirs in (None, ours) else f"it speaks {theirs}, and we were told to speak {ours}"
