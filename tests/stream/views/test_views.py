"""The parts of the views without Kafka: rows, lease, acknowledgements, client options, and what HTTP says."""

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faust", reason="NO FAUST: pip install -e '.[views]'")

from aiohttp.test_utils import TestClient, TestServer
from faust import SASLCredentials, SSLCredentials
from mode.utils.queues import FlowControlEvent, FlowControlQueue

from earlybird.schemas.codec import encode
from earlybird.schemas.signal import SignalAction
from earlybird.stream.adapters.clock import ManualClock
from earlybird.stream.adapters.faust_changes import keep_queues
from earlybird.stream.adapters.faust_options import broker_urls, credentials
from earlybird.stream.config.settings import Settings
from earlybird.stream.errors import SettingsError
from earlybird.stream.strategies.invented import invented
from earlybird.stream.views.acks import Acks, Continuity
from earlybird.stream.views.answers import sentiment
from earlybird.stream.views.faust_app import partition_of
from earlybird.stream.views.lease import Lease
from earlybird.stream.views.mention import Mention
from earlybird.stream.views.rows import ItemMentions, ItemRows, Shard, SymbolRows, decode_item, encode_item, row_key
from earlybird.stream.views.service import _check
from earlybird.stream.views.state import State
from earlybird.stream.views.topics import views_topics
from earlybird.stream.views.web import Web
from earlybird.stream.views.windows import KEPT_US, SPANS_US

NOW_US = 1_770_000_000_000_000
CLOCK = ManualClock(NOW_US)
MINUTE_US = 60_000_000


def mention(item: str = "1", at_us: int = NOW_US, score: float | None = 0.9, **about: Any) -> Mention:
    return Mention.of(invented(item, at_us, score, **about), at_us)


def ours(partitions: int = 1, url: str = "http://one:1") -> State:
    """A worker's state that owns all partitions."""
    state = State(partitions, Lease(1_000.0), url, settled=lambda: True, owned=frozenset(range(partitions)))
    state.lease.renew(state.lease.now_s())
    return state


def test_rows_come_back_from_their_changelog() -> None:
    """In any order, and with older rows after newer ones."""
    first, later = mention(), mention(score=-0.5, at_us=NOW_US + 1, revision=1, action=SignalAction.CORRECT)
    rows = SymbolRows()
    key = row_key("NVDA", "wire:1")
    for told in ([first, later], [first]):
        rows.restore(3, key, encode_item("wire:1", told))
    assert rows.partitions[3].summary("NVDA", MINUTE_US, NOW_US + 1).last == -0.5
    rows.restore(3, key, None)
    assert rows.partitions[3].symbols() == ()
    rows.restore(4, key, None)  # a row that is not there
    rows.drop(3)
    assert 3 not in rows.partitions
    items = ItemRows()
    items.restore(0, b"wire:1", encode_item("wire:1", [first]))
    history = items.add(0, "wire:1", later)
    assert decode_item(encode_item("wire:1", history.mentions)) == ItemMentions("wire:1", (first, later))
    items.restore(0, b"wire:1", None)
    assert not items.partitions[0]


def test_what_tells_nothing_new_writes_no_row() -> None:
    """A second time, and under each symbol for itself."""
    rows, item = SymbolRows(), ItemMentions("wire:1", (mention(symbols=["NVDA", "AMD"]),))
    assert rows.add(0, "NVDA", item) is not None and rows.add(0, "AMD", item) is not None
    assert rows.add(0, "NVDA", item) is None and rows.add(0, "AMD", item) is None


def test_old_items_are_pruned_with_their_rows() -> None:
    """From both tables, keys returned."""
    state = ours()
    old, new = mention("1", NOW_US - KEPT_US - 1), mention("2")
    for item_key, one in (("wire:1", old), ("wire:2", new)):
        state.items.add(0, item_key, one)
        state.symbols.add(0, "NVDA", ItemMentions(item_key, (one,)))
    items, symbols = state.prune(NOW_US)
    assert (items, symbols) == ({0: [b"wire:1"]}, {0: [b"NVDA\0wire:1"]})
    assert list(state.items.partitions[0]) == ["wire:2"] and state.counters.pruned == 1


def test_a_symbol_is_due_when_an_item_or_time_changes_it() -> None:
    """As items come, and as each of its windows lets go of one."""
    rows = SymbolRows()
    rows.add(0, "NVDA", ItemMentions("wire:1", (mention(),)))
    shard = rows.partitions[0]
    assert shard.due(NOW_US) == ["NVDA"] and shard.due(NOW_US) == []
    for length_us in SPANS_US.values():
        assert shard.due(NOW_US + length_us - 1) == []
        assert shard.due(NOW_US + length_us) == ["NVDA"]


def test_a_lease_ends_a_session_after_the_heartbeat_was_sent() -> None:
    """Not after it was answered; and at once where it is ended."""
    now = [100.0]
    lease = Lease(10.0, lambda: now[0])
    told = [lease.valid]
    lease.renew(95.0)
    told.append(lease.valid)
    now[0] = 105.0
    told.append(lease.valid)
    lease.renew(105.0)
    lease.end()
    assert [*told, lease.valid] == [False, True, False, False]


class Event:
    """An event of a stream that notes its acknowledgement."""

    def __init__(self, done: list[int], number: int) -> None:
        self.ack: Callable[[], None] = lambda: done.append(number)


def test_events_are_acknowledged_in_order_when_all_is_delivered() -> None:
    """Deliveries may finish in any order; one that fails holds back everything after it."""

    async def scenario() -> None:
        done, failed = list[int](), list[BaseException]()
        acks = Acks(failed.append)
        loop = asyncio.get_running_loop()
        first, second, third = (loop.create_future() for _ in range(3))
        for number, deliveries in enumerate(([first, second], [third], [])):
            acks.add(Event(done, number), deliveries)
        third.set_result(None)
        first.set_result(None)
        await asyncio.sleep(0)
        assert done == [] and len(acks) == 3
        second.set_result(None)
        await asyncio.sleep(0)
        assert done == [0, 1, 2]
        broken = loop.create_future()
        acks.add(Event(done, 3), [broken])
        acks.add(Event(done, 4), [])
        broken.set_exception(ValueError("refused"))
        await asyncio.sleep(0)
        assert done == [0, 1, 2] and [str(error) for error in failed] == ["refused"]
        assert len(acks) == 2

    asyncio.run(scenario())


def test_events_that_were_dropped_are_read_again() -> None:
    """From the first that is missing, once; a gap that stays is the topic's own."""
    watch = Continuity()
    assert watch.judge("p", 5, 5) == "process"
    assert watch.judge("p", 7, 5) == "gap" and watch.due("p") == 6
    assert [watch.judge("p", offset, 5) for offset in (8, 9)] == ["behind", "behind"]  # the rest of the queue
    assert [watch.judge("p", offset, 5) for offset in (6, 7, 8, 9)] == ["process"] * 4
    assert watch.judge("p", 12, 5) == "gap"
    assert [watch.judge("p", offset, 5) for offset in (13, 12, 13)] == ["behind", "own_gap", "process"]
    assert watch.judge("p", 3, 5) == "process" and watch.due("p") == 14  # read again after a rebalance
    assert watch.judge("p", 16, 5) == "gap"
    watch.keep({"p"})
    assert watch.judge("p", 14, 5) == "process"
    assert watch.knows("p")
    watch.keep(set())
    assert not watch.knows("p")
    assert watch.judge("p", 21, 20) == "gap" and watch.due("p") == 20


def test_resuming_a_queue_in_use_keeps_its_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust resumes queues a second time after it has sought the committed offsets; of suspended ones none is due."""
    monkeypatch.setattr(FlowControlEvent, "resume", FlowControlEvent.resume)  # undone afterwards
    keep_queues()
    control = FlowControlEvent()
    queue: Any = FlowControlQueue(flow_control=control, clear_on_resume=True)
    control.resume()
    queue.put_nowait("event")
    control.resume()
    assert queue.get_nowait() == "event"
    queue.put_nowait("of an earlier assignment")
    control.suspend()
    control.resume()
    assert queue.empty() and control.is_active()


@pytest.mark.parametrize(("key", "hashed"), [(b"21", -973932308), (b"foobar", -790332482)])
def test_partitions_are_those_of_java_clients(key: bytes, hashed: int) -> None:
    """The hashes are of Kafka's own test of murmur2."""
    assert partition_of(key, 12) == (hashed & 0x7FFFFFFF) % 12


def test_client_options_are_translated_or_refused(tmp_path: Path) -> None:
    """What cannot be translated would open another connection than was asked for."""
    assert credentials({}) is None
    login = {"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "me", "sasl.password": "secret"}
    plain: Any = credentials({"security.protocol": "SASL_PLAINTEXT", **login})
    assert isinstance(plain, SASLCredentials) and plain.ssl_context is None and plain.password == "secret"
    secured: Any = credentials({"security.protocol": "sasl_ssl", **login})
    assert secured.ssl_context.check_hostname
    bare: Any = credentials({"security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "none"})
    assert isinstance(bare, SSLCredentials) and not bare.context.check_hostname
    for options, why in (
        ({"ssl.cipher.suites": "x"}, "ssl.cipher.suites"),
        ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "GSSAPI"),
        ({"security.protocol": "SSL", "ssl.ca.location": str(tmp_path / "none")}, "ssl.ca.location"),
    ):
        with pytest.raises(SettingsError, match=why):
            credentials(options)
    assert broker_urls("SSL://one:1, two") == ["kafka://one:1", "kafka://two:9092"]


@pytest.mark.parametrize("topic", ["signals", "news.raw", "earlybird-views-by-symbol"])
def test_a_topic_with_two_uses_is_refused(topic: str) -> None:
    """Views that read what they write would never end."""
    with pytest.raises(SettingsError, match=r"views\.topic"):
        _check(Settings(views={"topic": topic}))  # type: ignore[arg-type]
    assert {one.partitions for one in views_topics(Settings().views, 7)} == {7}


@pytest.mark.parametrize("url", ["localhost:80", "http://", "http://one:1/path", "ftp://one"])
def test_an_address_without_host_or_with_a_path_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="http://host:port"):
        Settings(views={"url": url})  # type: ignore[arg-type]


def test_a_message_passes_its_released_schema(released_faults: Any) -> None:
    """With items and without."""
    shard = Shard()
    assert not released_faults("sentiment/1", encode(sentiment(shard, "NVDA", NOW_US, 1)))
    rows = SymbolRows()
    rows.add(0, "NVDA", ItemMentions("wire:1", (mention(),)))
    told = sentiment(rows.partitions[0], "NVDA", NOW_US + MINUTE_US * 60, 60 * MINUTE_US)
    assert not released_faults("sentiment/1", encode(told))
    assert [window.n for window in told.windows] == [0, 0, 0, 1] and told.items[0].item_key == "wire:1"
    assert told.decayed.weight == pytest.approx(0.45)


def asked(state: State, *paths: str, headers: Mapping[str, str] | None = None) -> list[tuple[int, Any]]:
    """Status and answer of each question to one worker."""

    async def scenario() -> list[tuple[int, Any]]:
        found = []
        async with TestClient(TestServer(Web(state, partition_of, CLOCK).application())) as client:
            for path in paths:
                async with client.get(path, headers=headers) as response:
                    text = await response.text()
                    found.append((response.status, json.loads(text) if text.startswith("{") else text))
        return found

    return asyncio.run(scenario())


def test_nothing_is_shown_without_lease_or_assignment() -> None:
    """Whatever the rows in memory say; the process itself is healthy."""
    for missing in ("lease", "assignment"):
        state = ours()
        state.symbols.add(0, "NVDA", ItemMentions("wire:1", (mention(),)))
        assert asked(state, "/symbols/NVDA")[0][0] == 200
        if missing == "lease":
            state.lease.end()
        else:
            state.settled = lambda: False
        symbol, board, health, ready = asked(state, "/symbols/NVDA", "/symbols", "/healthz", "/readyz")
        assert symbol[0] == 503 and symbol[1]["partition"] == 0
        assert board == (200, board[1]) and board[1]["symbols"] == [] and board[1]["missing"] == [0]
        assert health[0] == 200 and ready == (503, {"ready": False, "waiting": [ready[1]["waiting"][0]]})


def test_a_partition_in_memory_that_is_not_ours_is_not_shown() -> None:
    """As after a rebalance, before it is dropped."""
    state = ours()
    state.symbols.add(0, "NVDA", ItemMentions("wire:1", (mention(),)))
    state.owned = frozenset()
    assert [status for status, _ in asked(state, "/symbols/NVDA", "/symbols/NVDA/items")] == [503, 503]


def test_a_question_is_passed_on_once_and_only_to_the_owner() -> None:
    """Over real sockets: the answer of the owner, or why there is none."""

    async def scenario() -> None:
        there, here = ours(4), ours(4, "http://here:1")
        place = partition_of(b"NVDA", 4)
        there.symbols.add(place, "NVDA", ItemMentions("wire:1", (mention(),)))
        here.owned = frozenset()
        async with (
            TestServer(Web(there, partition_of, CLOCK).application()) as owner,
            TestClient(TestServer(Web(here, partition_of, CLOCK).application())) as client,
        ):
            there.url = str(owner.make_url("")).rstrip("/")
            here.owners = lambda: dict.fromkeys(range(4), there.url)
            async with client.get("/symbols/nvda?window=15m") as response:
                told = await response.json()
                assert response.status == 200 and told["n"] == 1 and told["worker"] == there.url
            async with client.get("/symbols?window=15m") as response:
                told = await response.json()
                assert told["missing"] == [] and [row["symbol"] for row in told["symbols"]] == ["NVDA"]
            there.lease.end()  # it would pass the question back: it must not
            there.owners = lambda: dict.fromkeys(range(4), "http://127.0.0.1:9")
            async with client.get("/symbols/nvda") as response:
                assert response.status == 503 and response.headers["Retry-After"] == "1"
            async with client.get("/symbols") as response:
                assert (await response.json())["missing"] == [0, 1, 2, 3]

    asyncio.run(scenario())


def test_faults_of_a_question_are_named() -> None:
    """Each with status 400 and a sentence."""
    paths = (
        "/symbols?window=7m",
        "/symbols/%20",
        "/symbols/A?as_of=-3d",
        "/symbols/A?as_of=xus",
        "/symbols/A/items?limit=0",
    )
    answers = asked(ours(), *paths)
    assert [status for status, _ in answers] == [400] * len(paths)
    assert [told["error"].partition(":")[0] for _, told in answers] == ["window", "symbol", "as_of", "as_of", "limit"]


def test_an_instant_of_the_past_is_answered_as_it_was() -> None:
    """The version that stood then; each answer says which instant it is about."""
    state, before_us = ours(), NOW_US - 10 * MINUTE_US
    later = mention(score=-0.9, at_us=NOW_US - MINUTE_US, revision=1, action=SignalAction.CORRECT)
    state.symbols.add(0, "NVDA", ItemMentions("wire:1", (mention(at_us=before_us), later)))
    then, now = asked(state, f"/symbols/NVDA?window=15m&as_of={before_us}us", "/symbols/NVDA?window=15m")
    assert (then[1]["last"], now[1]["last"]) == (0.9, -0.9)
    assert then[1]["as_of_us"] == before_us
    told = asked(state, "/symbols", "/symbols/NVDA", "/symbols/NVDA?window=15m", "/symbols/NVDA/items")
    assert [answer["as_of_us"] for _, answer in told] == [NOW_US] * 4


def test_metrics_and_page_are_served() -> None:
    """In Prometheus' format, and as HTML that asks for the board."""
    state = ours()
    state.symbols.add(0, "NVDA", ItemMentions("wire:1", (mention(),)))
    (_, metrics), (_, page) = asked(state, "/metrics", "/")
    assert "earlybird_views_rows 1\n" in metrics and "earlybird_views_symbols 1\n" in metrics
    assert "# TYPE earlybird_views_signals_total counter\n" in metrics
    assert "symbols?window=" in page
