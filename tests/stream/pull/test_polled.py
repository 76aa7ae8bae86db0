"""RSS, Atom, EDGAR and Tiingo against a server that answers like theirs: conditions, failures, and what is new."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from earlybird.schemas.raw import RAW
from earlybird.stream.errors import PullError
from earlybird.stream.publishing.line_format import FeedItem, Line
from earlybird.stream.pull.polling import Poll
from earlybird.stream.pull.rss import Rss
from earlybird.stream.pull.tiingo import Tiingo
from scripted_web import Answer, Asked, Web

Pulled = Callable[..., list[Line]]


def told(lines: list[Line]) -> list[tuple[str, str, str]]:
    found = [(RAW.validate_json(line.value), dict(line.headers)) for line in lines if isinstance(line, FeedItem)]
    return [
        (item.source_item_id.rpartition("/")[2], item.action.value, headers.get("pull-origin", b"live").decode())
        for item, headers in found
    ]


def rss(*entries: tuple[int, str], at: str = "Mon, 05 Jan 2026 10:00:00 GMT") -> bytes:
    parts = [
        f"<item><guid>https://wire.example/{number}</guid><title>{title}</title><pubDate>{at}</pubDate></item>"
        for number, title in entries
    ]
    return f"<rss version='2.0'><channel><title>Wire</title>{''.join(parts)}</channel></rss>".encode()


def script(*answers: Answer) -> Callable[[Asked], Answer]:
    """One after the other; the last one again and again."""
    left = list(answers)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def test_a_feed_is_polled_and_only_what_is_new_is_published(web: Web, pulled: Pulled) -> None:
    """Its backlog is left out but known; an edited entry is an update; a condition spares what did not change."""
    marks = {"ETag": '"1"', "Last-Modified": "Mon, 05 Jan 2026 10:00:00 GMT"}
    web.answer = script(
        (200, marks, rss((1, "Norvex opens plant"))),
        (304, {}, b""),
        (200, {}, rss((1, "Norvex opens plant"), (2, "Norvex cuts outlook"))),
        (200, {}, rss((1, "Norvex shuts plant"), (2, "Norvex cuts outlook"))),
    )
    lines = pulled(Rss([f"{web.url}/feed.xml"], "Acme a@acme.example", 0.01), items=2)
    assert told(lines) == [("2", "create", "live"), ("1", "update", "live")]
    assert [("if-none-match" in asked.headers, "if-modified-since" in asked.headers) for asked in web.asked[:4]] == [
        (False, False), (True, True), (True, True), (False, False),
    ]  # fmt: skip
    assert {asked.headers["user-agent"] for asked in web.asked} == {"Acme a@acme.example"}


def test_a_backlog_is_published_as_far_back_as_asked_for(web: Web, pulled: Pulled) -> None:
    """Marked, and each item only if it is late enough."""
    old, late = (f"<item><guid>u:{n}</guid><title>N</title><pubDate>{at}</pubDate></item>" for n, at in (
        (1, "Mon, 05 Jan 2026 08:00:00 GMT"), (2, "Mon, 05 Jan 2026 10:00:00 GMT")))  # fmt: skip
    web.answer = script((200, {}, f"<rss><channel>{old}{late}</channel></rss>".encode()))
    lines = pulled(Rss([web.url], "test", 0.01), items=1, since_us=int(1767603600e6))  # 9:00
    assert told(lines) == [("u:2", "create", "backlog")]


def test_what_comes_after_a_failure_is_marked(web: Web, pulled: Pulled) -> None:
    """It may have been there for as long as nobody could ask."""
    web.answer = script(
        (200, {}, rss((1, "A"))),
        (503, {"Retry-After": "0"}, b""),
        (200, {}, rss((1, "A"), (2, "B"))),
        (200, {}, rss((1, "A"), (2, "B"), (3, "C"))),
    )
    with capture_logs() as logged:
        lines = pulled(Rss([web.url], "test", 0.01), items=2)
    assert told(lines) == [("2", "create", "gap"), ("3", "create", "live")]
    (lost,) = [each for each in logged if each["event"] == "pull.disconnected"]
    assert lost["why"].endswith(": 503")


def test_a_feed_is_connected_once_it_has_answered(web: Web, pulled: Pulled) -> None:
    """Not while it waits after a failure."""
    web.answer = script((404, {}, b""), (404, {}, b""), (200, {}, rss((1, "A"))), (200, {}, rss((1, "A"), (2, "B"))))
    with capture_logs() as logged:
        pulled(Rss([web.url], "test", 0.01), items=1)
    assert [each["event"] for each in logged] == ["pull.disconnected", "pull.disconnected", "pull.connected"]


def test_one_feed_that_fails_holds_no_other_up(web: Web, pulled: Pulled) -> None:
    """Nor does one that answers with something else than a feed, which is named."""
    answers = script((200, {}, rss((1, "A"))), (200, {}, rss((1, "A"), (2, "B"))))

    def answer(asked: Asked) -> Answer:
        return {"/gone": (404, {}, b""), "/page": (200, {}, b"<html></html>")}.get(asked.path) or answers(asked)

    web.answer = answer
    lines = pulled(Rss([f"{web.url}/gone", f"{web.url}/page", f"{web.url}/feed"], "test", 0.01), items=1)
    assert told(lines) == [("2", "create", "live")]
    assert any("rss, feed or item expected" in getattr(line, "why", "") for line in lines)


def test_a_document_of_new_entries_alone_is_a_hole_that_is_said(web: Web, pulled: Pulled) -> None:
    """Between two polls there were more entries than the feed shows."""
    web.answer = script((200, {}, rss((1, "A"))), (200, {}, rss((2, "B"), (3, "C"))))
    with capture_logs() as logged:
        pulled(Rss([web.url], "test", 0.01), items=2)
    assert [each["event"] for each in logged if each["event"] == "pull.gap_open"] == ["pull.gap_open"]


def test_a_document_without_an_end_is_not_read(web: Web, pulled: Pulled, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory has its bound."""
    monkeypatch.setattr("earlybird.stream.pull.web.LARGEST_BYTES", 1_000)
    web.answer = script((200, {}, b"x" * 2_000))
    with capture_logs() as logged:
        pulled(Rss([web.url], "test", 0.01), until=lambda: any("more than 1,000" in str(each) for each in logged))


def test_the_sec_is_not_asked_without_an_address() -> None:
    """It answers 403 to whoever does not say who asks."""
    url = "https://www.sec.gov/cgi-bin/browse-edgar?action=getcurrent&output=atom"
    with pytest.raises(PullError, match=r"pull\.user_agent: the SEC asks for a name and an e-mail"):
        Rss([url], "earlybird", 30)
    Rss([url], "Acme a@acme.example", 30)


def test_a_feed_that_fails_is_asked_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """And as often as before once it answers."""
    monkeypatch.setattr("random.uniform", lambda *_: 1.0)
    poll = Poll(30)
    assert [round(poll.missed()) for _ in range(6)] == [60, 120, 240, 480, 600, 600]
    assert round(poll.missed(3_000)) == 3_000 and poll.failed
    before_s = time.monotonic()
    poll.done()
    assert before_s <= poll.due_s - 30 <= time.monotonic()


def tiingo(*numbers: int) -> bytes:
    return json.dumps(
        [
            {"id": number, "title": f"Norvex item {number}", "description": "", "tickers": ["nrvx"], "tags": [],
             "publishedDate": "2026-01-05T10:00:00Z", "crawlDate": "2026-01-05T10:00:05Z", "source": "wire.example"}
            for number in numbers
        ]
    ).encode()  # fmt: skip


def test_tiingo_reads_back_to_what_it_knows(web: Web, pulled: Pulled) -> None:
    """Page after page, the oldest first."""
    polls: list[dict[str, bytes]] = [{"0": tiingo(2, 1)}, {"0": tiingo(6, 5), "2": tiingo(4, 3), "4": tiingo(2, 1)}]
    count = 0

    def answer(asked: Asked) -> Answer:
        nonlocal count
        count += asked.query["offset"] == "0"
        return 200, {}, polls[min(count, 2) - 1][asked.query["offset"]]

    web.answer = answer
    lines = pulled(Tiingo("hush", ["nrvx"], "test", 0.01, web.url, page=2), items=4)
    assert [each[0] for each in told(lines)] == ["4", "3", "6", "5"] and {each[2] for each in told(lines)} == {"live"}
    assert web.asked[0].query == {"sortBy": "crawlDate", "limit": "2", "offset": "0", "tickers": "nrvx"}
    assert {asked.headers["authorization"] for asked in web.asked} == {"Token hush"}


def test_tiingo_goes_on_after_a_failure(web: Web, pulled: Pulled) -> None:
    """What came meanwhile is marked."""
    web.answer = script((200, {}, tiingo(1)), (500, {}, b""), (200, {}, tiingo(2, 1)))
    with capture_logs() as logged:
        assert told(pulled(Tiingo("hush", [], "test", 0.01, web.url), items=1)) == [("2", "create", "gap")]
    assert "pull.disconnected" in [each["event"] for each in logged] and "hush" not in str(logged)


def test_a_wrong_token_ends_tiingo_at_once(web: Web, pulled: Pulled) -> None:
    """The setting is named."""
    web.answer = script((403, {}, b'{"detail":"no"}'))
    with pytest.raises(PullError, match=r"403, refused: is pull\.tiingo_token right"):
        pulled(Tiingo("wrong", [], "test", 0.01, web.url))


def test_memory_of_what_was_seen_is_bounded() -> None:
    """The parser's: see test_feed_parser. Here: a session adds none of its own per item."""
    from earlybird.stream.feeds.seen import MOST_ITEMS
    from earlybird.stream.pull.session import Session

    session: Any = Session(Rss(["http://127.0.0.1:1"], "test", 30))
    sizes = {name: value for name, value in vars(session).items() if isinstance(value, list | set)}
    assert not sizes and MOST_ITEMS <= 1_000_000
