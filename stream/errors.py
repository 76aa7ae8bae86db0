"""Everything stream/ raises on purpose.

StreamError
├── SettingsError     a setting that cannot work; said at start, before anything is read
│   └── InvalidTime   an instant or a duration that cannot be understood; a ValueError, too
├── SourceEnded       a bounded source has given everything (the normal end of a replay)
├── SourceError       a broker refuses us, does not answer, or a topic cannot be read any more
├── SinkError         a message could not be delivered and the process must end rather than lose it
│   └── RecordTooLarge   one that does not fit into a message; it alone was not taken
├── FeedError         a file that cannot be published
├── StaleSignal       a strategy asked to be told of old signals (stream.subscription.live)
├── OutOfOrder        a recording that is not in the order of availability (stream.subscription.delay)
├── EngineGone        a feeder's engine is gone; what it has not answered is read again
└── FeederLost        a feeder ended unasked; the whole service must be started again
"""


class StreamError(Exception):
    """Base of this package's errors."""


class SettingsError(StreamError):
    """A setting that cannot work."""


class InvalidTime(SettingsError, ValueError):
    """An instant or a duration that cannot be understood. The text has it, where it was written, and what may be."""


class SourceEnded(StreamError):
    """A bounded source has given everything."""


class SourceError(StreamError):
    """A broker refuses us, does not answer in time, or a topic cannot be read any more."""


class SinkError(StreamError):
    """A message could not be delivered; to go on would lose it. `receipt` is that of the message, where it is known."""

    def __init__(self, reason: str, receipt: object | None = None) -> None:
        super().__init__(reason)
        self.receipt = receipt


class RecordTooLarge(SinkError):
    """A record that does not fit into a message; others are not concerned. `limit`: the client's own, None where the
    broker refused."""

    def __init__(self, topic: str, size: int, limit: int | None, receipt: object | None = None) -> None:
        allowed = "its max.message.bytes" if limit is None else f"message.max.bytes={limit:,}"
        super().__init__(
            f"not delivered: {topic}: MSG_SIZE_TOO_LARGE: {size:,} bytes do not fit into {allowed}", receipt
        )
        self.topic, self.size = topic, size


class FeedError(StreamError):
    """A file that cannot be published."""


class EngineGone(StreamError):
    """The process that has the engine ended."""


class FeederLost(StreamError):
    """A feeder ended, and nobody had asked it to."""

    def __init__(self, number: int, status: int) -> None:
        super().__init__(f"feeder {number} ended with status {status}; what it had under way is read again")
        self.number, self.status = number, status
