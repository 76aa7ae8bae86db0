"""What every Kafka client has in common: log lines and errors, mapped to structlog and limited in rate; and its end."""

import re
import threading
import time
from collections.abc import Callable
from operator import methodcaller
from typing import Protocol, TypeVar

from confluent_kafka import KafkaError, Message

from earlybird.stream.adapters.probe import speech_of
from earlybird.stream.errors import SourceError
from earlybird.stream.observability.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")

QUIET_S = 10.0  # one line of a kind in this time; librdkafka itself writes twenty a second while no broker answers

LEAVING_S = 5.0

Headers = tuple[tuple[str, bytes | None], ...]
_headers: Callable[[Message], Headers | None] = methodcaller("headers")

# Waiting does not mend these: wrong password, wrong certificate, no permission.
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
UNREACHABLE = frozenset({KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE})
# What a rebalance, or a coordinator that moves, makes of a commit; the next one repairs it.
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

# A connection that is closed before a broker's first answer, as librdkafka's log has it. [thrd:ssl://host:port/name]
_CLOSED = re.compile(
    r"\[thrd:(?:(?P<scheme>\w+)://)?(?P<address>[^/]+:\d+)/.*(?:Disconnected|Send failed).*in state "
    r"(?P<state>APIVERSION_QUERY|SSL_HANDSHAKE|UP)\)"
)
_CLOSED_OFTEN = 3  # in a row: a broker that stops closes a connection, too, and then takes none


def fatal(error: KafkaError) -> bool:
    """Whether the client can never work again. librdkafka's event has a code of its own for it, and no flag."""
    return error.fatal() or error.code() == KafkaError._FATAL


def headers_of(message: Message) -> Headers:
    """The headers of a record; none where a name is not UTF-8. confluent-kafka then gives a result and an error at
    once, which a plain call may not notice; it must not be asked again, as its second answer has null pointers."""
    try:
        return tuple(_headers(message) or ())
    except SystemError:
        place = {"topic": message.topic(), "partition": message.partition(), "offset": message.offset()}
        log.warning("record.headers_unreadable", **place, hint="the name of a header is not UTF-8")
        return ()


class Closable(Protocol):
    """A librdkafka consumer."""

    def close(self) -> None:
        """Leave the group, let go of the connections."""


def call_with_timeout(timeout_s: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises; on another thread, while this one waits. Raises TimeoutError when it has not come
    back by then, and leaves it behind: some of librdkafka's calls have no bound of their own."""
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


def leave(consumer: Closable, client: str, timeout_s: float = LEAVING_S) -> bool:
    """Close a consumer within `timeout_s`; whether it did. librdkafka now and then never comes back from leaving a
    group that has thrown it out: then the group's session timeout says it."""
    try:
        call_with_timeout(timeout_s, consumer.close)
    except TimeoutError:
        log.warning("client.not_left", client=client, waited_s=timeout_s, hint="its group goes by the session timeout")
        return False
    return True


class ClientLog:
    """Logger and error callback of one client; runs on the thread that polls it.

    `failure` is set once the client can never work: refused before it ever worked, or broken by its own account.
    `unreachable` says why the broker was not reached the last time.
    """

    def __init__(
        self,
        name: str,
        bootstrap_servers: str,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        group: str | None = None,
    ) -> None:
        self.name, self.bootstrap_servers, self.group = name, bootstrap_servers, group
        self.failure: str | None = None
        self.unreachable: str | None = None
        self.worked = False  # set by the owner: a record, an assignment or an acknowledgement came
        self._reached = False  # a broker has answered: it speaks as we do
        self._closed: tuple[str, int, float] = ("", 0, 0.0)  # address, closings in a row, the last one's instant
        self.missing_topics: set[str] = set()  # until the owner has found them
        self._monotonic = monotonic
        self._last: dict[str, float] = {}

    def denies(self, error: KafkaError) -> bool:
        """Whether this error lasts. Permissions on a group count only for a client that has one: librdkafka looks for
        the coordinator of its `group.id` even if the group is never joined."""
        return error.code() in DENIED and not self._about_unused_group(error)

    def _about_unused_group(self, error: KafkaError) -> bool:
        return self.group is None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED

    def due(self, kind: str) -> bool:
        """Whether a line of this kind may be written now."""
        now = self._monotonic()
        if now - self._last.get(kind, -QUIET_S) < QUIET_S:
            return False
        self._last[kind] = now
        return True

    def missing(self, topic: str) -> None:
        """A topic to read is not there; librdkafka says so once."""
        self.missing_topics.add(topic)
        if self.due(f"topic {topic}"):
            log.warning("topic.awaited", topic=topic, hint="earlybird topics create")

    def log(self, level: int, template: str, *parts: object) -> None:
        """librdkafka's log line, in the form of logging.Logger.log: facility, client, text."""
        facility, text = str(parts[0]) if parts else "", str(parts[-1]) if parts else template
        if facility == "FAIL" and not (self._reached or self.worked or self.failure):
            self._look_for_mismatch(text)
        # FAIL and ERROR: said by error() in our words. GETPID: a cluster that has just been started.
        quiet = facility in ("FAIL", "ERROR") or (facility == "GETPID" and text.endswith("retrying"))
        if quiet or "will be ignored by this" in text:
            log.debug("client.log", client=self.name, facility=facility, text=text)
        elif self.due(facility):
            log.log(level, "client.log", client=self.name, facility=facility, text=text)

    def error(self, error: KafkaError) -> None:
        """librdkafka's error callback."""
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
        """The error in words that name what was refused: the group, the topic, or us."""
        what = (
            f"group {self.group}"
            if error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED
            else topic and f"topic {topic}"
        )
        return SourceError(f"{self.bootstrap_servers}: {what + ': ' if what else ''}{error.name()}: {error.str()}")

    def raise_failure(self) -> None:
        """Raises SourceError once the client can never work."""
        if self.failure is not None:
            raise SourceError(f"Kafka refuses us: {self.failure}")

    def reached(self) -> None:
        """A broker has answered."""
        self._reached = True

    def _look_for_mismatch(self, text: str) -> None:
        """Tell a listener that speaks otherwise than we do from one that is away: librdkafka takes both for a lost
        connection and knocks for ever."""
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
    ours, theirs = "TLS" if "ssl" in (closed["scheme"] or "") else "plain Kafka", speech_of(closed["address"])
    return None if theirs in (None, ours) else f"it speaks {theirs}, and we were told to speak {ours}"
