"""Errors that stream/ raises on purpose.

StreamError
├── SettingsError     a setting that cannot work; raised at start, before anything is read
│   └── InvalidTime   an instant or a duration that cannot be parsed; also a ValueError
├── SourceEnded       a bounded source is exhausted (the normal end of a replay)
├── SourceError       a broker refuses us, does not answer, or a topic cannot be read any more
├── SinkError         a message could not be delivered; the process must end rather than lose it
│   └── RecordTooLarge   a record that does not fit into a message; only this one was not taken
├── RegistryAway      a schema registry that does not answer; it is asked again
├── FeedError         a file that cannot be published
├── PullError         a vendor that refuses us (stream.pull)
├── StaleSignal       an old signal, for a strategy that refuses them (stream.subscription.live)
├── OutOfOrder        a recording that is not in the order of availability (stream.subscription.delay)
├── EngineGone        a consumer process lost its engine; unanswered records are read again
└── ConsumerProcessLost        a consumer process exited unexpectedly; the whole service must be restarted
"""


class StreamError(Exception):
    """Base of this package's errors."""


class SettingsError(StreamError):
    """A setting that cannot work."""


class InvalidTime(SettingsError, ValueError):
    """An instant or a duration that cannot be parsed.

    The message holds the text, its origin and the allowed forms.
    """


class SourceEnded(StreamError):
    """A bounded source is exhausted."""


class SourceError(StreamError):
    """A broker refuses us or does not answer, or a topic became unreadable."""


class RegistryAway(StreamError):
    """A schema registry that does not answer; it is asked again."""


class SinkError(StreamError):
    """A message could not be delivered; continuing would lose it.

    `receipt` is that of the message, where it is known.
    """

    def __init__(self, reason: str, receipt: object | None = None) -> None:
        super().__init__(reason)
        self.receipt = receipt


class RecordTooLarge(SinkError):
    """A record too large for a message; other records are not affected.

    `limit` is the client's own; None where the broker refused.
    """

    def __init__(self, topic: str, size: int, limit: int | None, receipt: object | None = None) -> None:
        allowed = "its max.message.bytes" if limit is None else f"message.max.bytes={limit:,}"
        super().__init__(
            f"not delivered: {topic}: MSG_SIZE_TOO_LARGE: {size:,} bytes do not fit into {allowed}", receipt
        )
        self.topic, self.size = topic, size


class FeedError(StreamError):
    """A file that cannot be published."""


class PullError(StreamError):
    """A vendor that refuses us, or an answer that trying again cannot change."""


class EngineGone(StreamError):
    """The process that owns the engine ended."""


class ConsumerProcessLost(StreamError):
    """A consumer process exited unexpectedly."""

    def __init__(self, number: int, status: int) -> None:
        super().__init__(f"consumer process {number} ended with status {status}; what it had under way is read again")
        self.number, self.status = number, status
