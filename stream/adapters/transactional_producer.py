"""Kafka's transactional producer: begins, commits and aborts, and outlives a transaction that the broker ended."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from earlybird.stream.adapters.clients import ClientLog, fatal
from earlybird.stream.adapters.credentials import PasswordFile
from earlybird.stream.adapters.endless_calls import end_within
from earlybird.stream.adapters.kafka_sink import FULL_POLL_S
from earlybird.stream.adapters.options import transaction_options
from earlybird.stream.adapters.own_transactions import OwnTransactions
from earlybird.stream.adapters.statistics import statistics_into
from earlybird.stream.adapters.undecided import Last, State, Undecided, names
from earlybird.stream.config.client_options import Endpoint, KafkaEndpoint
from earlybird.stream.errors import SettingsError, SinkError
from earlybird.stream.ports import Outgoing

log = structlog.get_logger(__name__)

TRY_S = 1.0  # time-out per request, which is then resumed
CLOSE_S = 2.0
OTHERS_WAIT = 3  # transaction timeouts that we wait for other workers' undecided records

Delivered = Callable[[KafkaError | None, Message], None]
Headers = Sequence[tuple[str, bytes]]


class TransactionalProducer:
    """One transaction at a time. Not thread-safe: publisher thread only.

    `transactional_id` names this worker's place: a successor with the same one aborts what this worker left open, and
    ends this worker if it still runs. A transaction that the broker ended for its age (transaction.timeout.ms), as
    during an outage, is only `broken`: it goes on with a new producer. Raises SinkError where it cannot go on.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        transactional_id: str,
        monotonic: Callable[[], float] = time.monotonic,
        undecided: Undecided | None = None,
    ) -> None:
        """Connect; what is `undecided` is aborted before the first transaction."""
        self.errors = 0
        self.statistics: dict[str, float] = {}
        self.begun_s: float | None = None  # begin of the open transaction, if there is one
        self.progress_at = monotonic()  # time of the last answer of the broker
        self.log = ClientLog("transactions", endpoint, monotonic)
        self._id, self._monotonic, self._undecided = transactional_id, monotonic, undecided
        self._password = PasswordFile(KafkaEndpoint.of(endpoint).options, "transactions")
        self._options = transaction_options(endpoint, transactional_id)
        self._own = OwnTransactions()
        self._doubt_s: float | None = None  # since when other workers' records hide what became of our last commit
        self._timeout_s = int(self._options["transaction.timeout.ms"]) / 1000
        self.largest = int(self._options["message.max.bytes"])
        self._connect()

    def _connect(self) -> None:
        self.started, self.in_flight = False, 0
        self._initialized = False  # our place is taken
        self.broken: KafkaError | None = None  # why the open transaction must be aborted
        callbacks = {"error_cb": self._error, "logger": self.log}
        callbacks |= statistics_into(self.statistics, lambda: self._password.check(self._producer))
        try:
            self._producer = Producer(self._options | callbacks)
        except KafkaException as error:
            raise SettingsError(f"Kafka options: {error.args[0].str()}") from None

    def serve(self) -> None:
        """Handle delivery reports; take our place if that is still to be done."""
        self._try(partial(self._producer.poll, 0))
        self._raise_failure()
        if not self.started:
            self._start()

    def begin(self, mark: bytes = b"") -> None:
        """Begin a transaction whose records bear this mark; a failure shows as `broken`."""
        self.begun_s = self._monotonic()
        self._own.begin(mark)
        self._try(self._producer.begin_transaction)

    def produce(self, outgoing: Outgoing, more: Headers, delivered: Delivered) -> bool:
        """Produce into the open transaction; return whether the record is small enough for any message.

        `delivered` is called with the broker's answer, unless the transaction is broken by then.
        """
        report = partial(self._delivered, self._producer, self.begun_s, delivered)
        headers: list[tuple[str, str | bytes | None]] = [*outgoing.headers, *more]
        while True:
            try:
                self._producer.produce(
                    outgoing.topic, outgoing.value, outgoing.key, headers=headers, on_delivery=report
                )
            except BufferError:
                self._try(partial(self._producer.poll, FULL_POLL_S))
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                    return False
                self._fail(error)
                return True
            else:
                self.in_flight += 1
                return True

    def commit(self, offsets: list[TopicPartition], group: object) -> bool:
        """Commit with these offsets, however long the broker takes.

        Returns False if the transaction is `broken` and must be aborted.
        """
        if offsets and not self._send_offsets(offsets, group):
            return False
        if committed := self._ask(partial(self._producer.commit_transaction, TRY_S), in_doubt=True):
            self.begun_s = None
            self._own.commit(offsets)
        return committed

    def _send_offsets(self, offsets: list[TopicPartition], group: object) -> bool:
        request = partial(self._producer.send_offsets_to_transaction, offsets, group, TRY_S)
        return self._ask(partial(end_within, self._timeout_s, request))

    def abort(self) -> None:
        """Abort the open transaction, however long the broker takes."""
        self._raise_failure()
        begun_s, self.begun_s = self.begun_s, None
        if begun_s is not None and not (self.broken and fatal(self.broken)):
            self.broken = None  # that was the reason; from here on it tells how the abort went
            self._ask(partial(self._producer.abort_transaction, TRY_S))
        if self.broken is not None and fatal(self.broken):
            self._start_anew(self.broken, begun_s)
        self.broken, self.in_flight = None, 0

    def renew(self) -> None:
        """Take our place anew, as after a restart; what is open is aborted."""
        self.abort()
        self._reconnect()

    def close(self) -> None:
        """Abort what is open, so that readers need not wait for it."""
        if self.begun_s is not None and not (self.broken and fatal(self.broken)):
            self._try(partial(self._producer.abort_transaction, CLOSE_S))

    def _start(self) -> None:
        """Take our place.

        The broker first ends what a predecessor left open, then we end what it left undecided.
        """
        try:
            if not self._initialized:
                self._producer.init_transactions(TRY_S)
                self._initialized = True
            state = None if self._undecided is None else self._undecided.state(self._own)
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if not error.retriable() and (not self._initialized or self.log.denies(error)):
                raise self._refused(error) from None
            if self.log.due("start"):
                log.info("transactions.awaited", transactional_id=self._id, reason=error.str())
            return
        if state is None or self._decide(state):
            self.started, self.progress_at = True, self._monotonic()

    def _decide(self, state: State) -> bool:
        """End what is undecided; return whether that is done. Raises SinkError."""
        now_s, own = self._monotonic(), self._own
        self._doubt_s = None if state.last is not Last.HIDDEN else self._doubt_s or now_s
        if self._doubt_s is not None and now_s - self._doubt_s < OTHERS_WAIT * self._timeout_s:
            if self.log.due("doubt"):
                log.info("transactions.awaited", transactional_id=self._id, reason="other workers' undecided records")
            if state.aborted:
                self._abort_undecided(state.aborted)
            return False
        if state.last is Last.OUTCOMES_ALONE:
            # Safe: a new owner of a partition waits while its offsets are undecided, so none has read on from there.
            log.info("offsets.committed_again", partitions=names(own.offsets))
            self.begin()
            if not self.commit(own.offsets, state.group):
                self.abort()
                return False
        lost = state.last in (Last.HIDDEN, Last.LOST)
        reached = self._abort_undecided([*state.aborted, *(state.committed if lost else ())], state)
        if reached and lost:
            log.error("transactions.fenced", transactional_id=self._id, reason="the last commit was left undecided")
            raise SinkError(f"the last commit of transactional id {self._id} was left undecided by the broker")
        return reached

    def _abort_undecided(self, partitions: list[TopicPartition], group: State | None = None) -> bool:
        """Abort these partitions and, if given, the group; return whether it reached them."""
        if partitions:
            log.info("transactions.undecided", partitions=names(partitions))
        self.begin()
        for tp in partitions:
            self._producer.produce(tp.topic, partition=tp.partition, on_delivery=self._reached)
        while self.broken is None and self._producer.flush(TRY_S):
            pass
        # Of the group a refusal matters as little as these offsets: its coordinator knows the group by then.
        if (reached := self.broken is None) and group:
            self._send_offsets(group.offsets, group.group)
        self.abort()
        return reached and self._initialized

    def _reached(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._fail(error)

    def _ask(self, request: Callable[[], None], *, in_doubt: bool = False) -> bool:
        """Repeat a request until the broker has answered; return False if the transaction is broken.

        `in_doubt`: the broker may have carried out what it does not answer for, and nobody may produce it again.
        """
        while (error := self._try(request)) is not None:
            if in_doubt and fatal(error):
                log.error("transactions.fenced", transactional_id=self._id, reason=error.str())
                raise SinkError(f"a commit of transactional id {self._id} is in doubt: {error.str()}")
            if self.broken is not None:
                return False
            self._raise_failure()
            if not error.retriable() or error.code() == KafkaError._CONFLICT:  # an earlier call is still open
                raise self._refused(error)
            if self.log.due("request"):
                log.warning("transactions.awaited", transactional_id=self._id, reason=error.str())
        self.progress_at = self._monotonic()
        return True

    def _try(self, request: Callable[[], object]) -> KafkaError | None:
        try:
            request()
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if fatal(error) or error.txn_requires_abort():
                self._fail(error)
            return error
        return None

    def _start_anew(self, error: KafkaError, begun_s: float | None) -> None:
        """Go on with a new producer, unless another process has our place.

        A transaction that was ended for its age is reported in several ways; within that age they mean another process.
        After an outage the broker may have lost count of the records; the start of the new producer aborts them.
        """
        aged = begun_s is not None and self._monotonic() - begun_s > self._timeout_s
        if not aged and error.code() != KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER:
            log.error("transactions.fenced", transactional_id=self._id, reason=error.str())
            raise SinkError(f"Kafka has ended this process's transactional id {self._id}: {error.str()}")
        log.warning("transaction.expired", transactional_id=self._id, reason=error.str())
        self._reconnect()

    def _reconnect(self) -> None:
        former = self._producer
        former.purge()
        self._connect()
        with suppress(KafkaException):  # its fatal error once more
            former.poll(0)  # discard its delivery reports, which would keep it and its threads alive

    def _delivered(
        self,
        producer: Producer,
        begun_s: float | None,
        delivered: Delivered,
        error: KafkaError | None,
        message: Message,
    ) -> None:
        if producer is not self._producer or begun_s != self.begun_s or self.broken is not None:
            return
        self.in_flight -= 1
        if error is None:
            self.log.worked, self.progress_at = True, self._monotonic()
            self._own.note(message)
        else:
            self.errors += 1
            self._fail(error)
        delivered(error, message)

    def _fail(self, error: KafkaError) -> None:
        if self.broken is None or fatal(error):
            self.broken = error

    def _error(self, error: KafkaError) -> None:
        """Note what the client reports beside its calls."""
        if fatal(error):
            self._fail(error)
        else:
            self.log.error(error)

    def _raise_failure(self) -> None:
        if self.log.failure is not None:
            raise SinkError(f"not delivered: {self.log.failure}")
        if self.broken is None:
            return
        # Without its map a commit would not name what the transaction holds.
        if self.log.denies(self.broken) or self.broken.code() == KafkaError.OFFSET_METADATA_TOO_LARGE:
            raise self._refused(self.broken)

    def _refused(self, error: KafkaError) -> SinkError:
        return SinkError(f"transactional id {self._id}: {error.name()}: {error.str()}")
