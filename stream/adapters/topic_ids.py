"""Topic ids, which detect a topic that was deleted and recreated by name."""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, TopicDescription

from earlybird.stream.adapters.clients import ClientLog
from earlybird.stream.adapters.options import client_options
from earlybird.stream.config.client_options import Endpoint

CHECK_INTERVAL_S = 1.0  # between two requests; a recreated topic is read from its old offset for at most this long
REQUEST_TIMEOUT_S = 2.0  # a broker answers within milliseconds
NO_ID = "A" * 22  # the zero UUID: the broker knows no ids (before 2.8)


class TopicIds:
    """Reader of topic ids, on request and every second on its own thread.

    The thread starts at the first request. A topic without an entry has no known id: the broker is too old (or the
    embedded one), does not let us describe the topic, or did not answer. Consumer thread only, except the thread
    that looks and writes `latest`.
    """

    def __init__(self, endpoint: Endpoint, topics: Sequence[str]) -> None:
        """Prepare for these topics; connects at the first `fetch`."""
        self.latest: Mapping[str, str] = {}  # ids at the last request; a new object only when something has changed
        self._topics = TopicCollection(list(topics))
        self._settings = client_options(endpoint)
        self._settings.pop("group.instance.id", None)
        self._log = ClientLog("topic ids", endpoint)
        self.admin: AdminClient | None = None  # from the first request on
        self._has_controller = False  # whether the broker has a controller, which answers the request
        self._closed = threading.Event()

    def fetch(self) -> Mapping[str, str]:
        """Return the ids that the broker reports now."""
        if self.admin is not None:
            return self._fetch(self.admin)
        admin = self.admin = AdminClient(self._settings, logger=self._log)
        ids = self._fetch(admin)
        threading.Thread(target=self._watch, args=(admin,), name="topic-ids", daemon=True).start()
        return ids

    def close(self) -> None:
        self._closed.set()

    def _watch(self, admin: AdminClient) -> None:
        while not self._closed.wait(CHECK_INTERVAL_S):
            fetched = self._fetch(admin)
            if fetched.items() - self.latest.items():
                self.latest = {**self.latest, **fetched}

    def _fetch(self, admin: AdminClient) -> dict[str, str]:
        try:
            if not self._has_controller:
                cluster = admin.list_topics(timeout=REQUEST_TIMEOUT_S)
                # A request to describe topics waits for a controller, which the embedded broker never has.
                self._has_controller = cluster.controller_id in cluster.brokers
            answers = (
                admin.describe_topics(self._topics, request_timeout=REQUEST_TIMEOUT_S) if self._has_controller else {}
            )
        except KafkaException:
            return {}  # no broker reached; the consumer's own log reports it
        return {topic: topic_id for topic, answer in answers.items() if (topic_id := _id_of(answer)) is not None}


def ids_of(endpoint: Endpoint, topics: Sequence[str]) -> Mapping[str, str]:
    """Return the ids of these topics, as far as the broker reports them."""
    ids = TopicIds(endpoint, topics)
    try:
        return ids.fetch()
    finally:
        ids.close()


def _id_of(answer: "Future[TopicDescription]") -> str | None:
    try:
        fetched = str(answer.result().topic_id)
    except KafkaException:
        return None
    return None if fetched == NO_ID else fetched
