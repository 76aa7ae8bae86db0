"""The feed's playback beside what others send to the same topics."""

import json
import time
from dataclasses import replace

from earlybird.schemas.signal import RawPosition
from earlybird.stream.adapters.memory import MemorySink
from earlybird.stream.demo.items import DemoRecord, demo_feed
from earlybird.stream.demo.playback import Playback
from earlybird.stream.ports import Outgoing, Record
from earlybird.stream.publishing.one_text import one_text
from earlybird.stream.strategies.invented import invented


class Echo:
    """A broker with a stage behind it: gives back what was sent, and a signal for each."""

    def __init__(self) -> None:
        self.sink = MemorySink()
        self._seen = 0
        self._signals: list[Record] = []

    def poll(self, timeout_ms: int) -> list[Record]:
        """Signals of what was read before, then the new raw records."""
        due, self._signals = self._signals, []
        sent: list[Outgoing] = list(self.sink.sent[self._seen :])
        for offset, each in enumerate(sent, self._seen):
            due.append(Record(each.topic, 0, offset, each.key, each.value, 1_000, each.headers))
            self._signals.append(signal(each, offset))
        self._seen += len(sent)
        return due


def signal(outgoing: Outgoing, offset: int) -> Record:
    """The signal of a raw record."""
    source, _, item = (outgoing.key or b"").decode().partition(":")
    said = invented(item, 1_770_000_000_000_000, -0.9, source=source)
    said = said.model_copy(update={"raw": RawPosition(topic=outgoing.topic, partition=0, offset=offset)})
    return Record("signals", 0, offset, outgoing.key, said.model_dump_json().encode())


def due_now() -> list[DemoRecord]:
    """Two normal items."""
    records = [record for record in demo_feed() if record.odd is None][:2]
    return [replace(record, at_us=time.time_ns() // 1000) for record in records]


def test_what_others_send_is_shown_and_not_judged() -> None:
    """A typed headline comes between the feed's items: it has a row of its own, and the feed its account."""
    echo = Echo()
    playback = Playback(due_now(), echo.sink, echo)
    typed = one_text("Norvex cuts outlook", "news.raw", "you")
    playback.send(typed)
    rows = [row for rows in playback.play(60.0, lambda: None) for row in rows]
    assert len(rows) == playback.answered == 2
    assert playback.surprises() == []
    (other,) = playback.others()
    assert (other.headline, other.item_key) == ("Norvex cuts outlook", (typed.key or b"").decode())
    assert playback.others() == []


def test_records_with_a_strange_header_are_of_others() -> None:
    """Whoever sends them; the demo goes on."""
    echo = Echo()
    playback = Playback(due_now(), echo.sink, echo)
    for number, value in enumerate((b"x", b"99", b"-1", b"\xff")):
        item = one_text(f"Norvex says {number}", "news.raw", "you")
        playback.send(Outgoing(item.topic, item.key, item.value, (("demo-record", value),)))
    list(playback.play(60.0, lambda: None))
    assert len(playback.others()) == 4


def test_a_typed_text_is_an_item_of_its_own() -> None:
    """Two equal lines are two items; cashtags are its symbols, whatever spelling; bytes that are no UTF-8 are shown."""
    first, second = (one_text("Norvex cuts $NRVX, $brk.b $5 US$", "news.raw", "you", ["nrvx"]) for _ in range(2))
    assert first.key != second.key
    fields = json.loads(first.value or b"")
    assert [(each["symbol"], each["origin"]) for each in fields["symbols"]] == [
        ("NRVX", "provider"),
        ("BRK.B", "cashtag"),
    ]
    assert fields["headline"] == "Norvex cuts $NRVX, $brk.b $5 US$" and "lang" not in fields
    tweet = json.loads(one_text("a \udcff b", "tweets.raw", "say", tweet=True).value or b"")
    assert (tweet["item_type"], tweet["text"]) == ("tweet", "a ? b")
