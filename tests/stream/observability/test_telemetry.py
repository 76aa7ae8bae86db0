"""The log, the metrics and the health endpoints, as an operator's tools see them."""

import io
import json
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress

import pytest
import structlog
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from earlybird.schemas.rejection import Reason
from earlybird.schemas.signal import Signal
from earlybird.stream.consumer_processes.merged_health import MergedHealth
from earlybird.stream.errors import SettingsError
from earlybird.stream.observability.figures import FIGURES
from earlybird.stream.observability.health import LIVENESS_TIMEOUT_S, MOST_CONNECTIONS, HealthServer, Readiness
from earlybird.stream.observability.logging import configure_logging
from earlybird.stream.observability.metrics import STAGES, Metrics
from earlybird.stream.ports import Partition, Position

T0 = 1_700_000_000_000_000


def signal(*, layer: int | None = 2, hit: bool = False) -> Signal:
    """One signal, a retraction without a layer; its life takes 10 ms."""
    result: dict[str, object] = {}
    if layer is not None:
        result = {
            "label": "positive",
            "probs": {"negative": 0.1, "neutral": 0.2, "positive": 0.7},
            "score": 0.6,
            "confidence": 0.7,
            "calibrated": True,
            "exit": {"layer": layer, "max_layers": 8, "reason": "confidence", "puzzlement": 0.2},
            "input": {"n_tokens": 9, "truncated": False, "text_sha256": "0"},
            "novelty": {"cache_hit": hit},
        }
    names = ("id", "sha256", "profile", "policy", "config_hash", "numerics", "dtype", "device", "code_version")
    stamps = {"ingested_us": 0, "consumed_us": 1_000, "engine_in_us": 3_000, "exited_us": 9_000, "emitted_us": 10_000}
    whole = {
        "signal_id": "s",
        "item_key": "wire:1",
        "revision": 0,
        "action": "retract" if layer is None else "new",
        "source": "wire",
        "model": dict.fromkeys(names, "x"),
        "digest": "d",
        "raw": {"topic": "news.raw", "partition": 0, "offset": 0},
        "ts": {name: T0 + offset for name, offset in stamps.items()},
    }
    return Signal.model_validate_json(json.dumps(whole | result))


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the exposition, by name and labels, as Prometheus itself would parse it."""
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


@pytest.fixture(autouse=True)
def _structlog_left_as_it_was() -> object:
    yield
    structlog.reset_defaults()


def test_a_json_log_line_is_one_object_with_event_level_and_time() -> None:
    """Log shippers parse each line alone; the event's name is stable, what varies are fields."""
    out = io.StringIO()
    configure_logging("info", "json", out)
    log = structlog.get_logger("x")
    log.debug("unheard.of")
    log.warning("partition.assigned", topic="news.raw", offset=3, text="größer\nzwei")
    (line,) = out.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("time").endswith("Z")
    assert told == {
        "event": "partition.assigned", "level": "warning", "topic": "news.raw", "offset": 3, "text": "größer\nzwei",
    }  # fmt: skip


def test_each_line_carries_the_facts_of_its_process() -> None:
    """Whichever thread writes it; what a line says itself is not overruled."""
    out = io.StringIO()
    configure_logging("info", "json", out, worker="host-1", group="g")
    thread = threading.Thread(target=structlog.get_logger().info, args=("text.failed",))
    thread.start()
    thread.join()
    structlog.get_logger().info("consumer_process.started", worker="host-2")
    told = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["worker"], line["group"]) for line in told] == [("host-1", "g"), ("host-2", "g")]


def test_a_position_is_logged_as_people_write_it() -> None:
    """TOPIC/PARTITION/OFFSET/INDEX, as in the audit; no Python in JSON."""
    out = io.StringIO()
    configure_logging("info", "json", out)
    structlog.get_logger().error("outcome.failed", position=Position("news.raw", 3, 42, 1))
    assert json.loads(out.getvalue())["position"] == "news.raw/3/42/1"


def test_an_exception_stays_on_its_line() -> None:
    """A traceback over many lines would be many log records."""
    out = io.StringIO()
    configure_logging("info", "json", out)
    try:
        raise ValueError("lost")
    except ValueError:
        structlog.get_logger().exception("text.failed")
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["exception"][0]["exc_type"] == "ValueError"


def test_console_log_without_a_terminal_has_no_colours() -> None:
    """Redirected to a file it stays readable."""
    out = io.StringIO()
    configure_logging("info", "console", out)
    structlog.get_logger().info("partition.assigned", topic="news.raw")
    assert "\x1b" not in out.getvalue()
    assert "partition.assigned" in out.getvalue()
    assert "topic=news.raw" in out.getvalue()


@pytest.mark.parametrize(
    ("partitions", "shown"),
    [
        ([f"news.raw/{number}" for number in range(8)], str([f"news.raw/{number}" for number in range(8)])),
        (
            [f"news.raw/{number}" for number in (*range(11), 12)] + ["a/b/3"],
            "['a/b/3', 'news.raw/0-10', 'news.raw/12']",
        ),
    ],
)
def test_a_console_line_shows_many_partitions_as_ranges(partitions: list[str], shown: str) -> None:
    """A person reads where the gaps are; a program gets each."""
    for form in ("console", "json"):
        out = io.StringIO()
        configure_logging("info", form, out)
        structlog.get_logger().info("partitions.assigned", partitions=partitions)
        line = out.getvalue()
        assert f"partitions={shown}" in line if form == "console" else json.loads(line)["partitions"] == partitions


def test_a_logger_made_before_the_set_up_follows_it() -> None:
    """Modules make theirs at import."""
    early, out = structlog.get_logger("early"), io.StringIO()
    configure_logging("error", "json", out)
    early.info("thing.happened")
    early.error("thing.broke")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["thing.broke"]


def test_signals_are_counted_by_label_and_reason_and_only_computed_ones_by_depth() -> None:
    """A cache answer used no layer; a retraction is no signal with a label."""
    metrics = Metrics(max_layers=8)
    for one in (signal(), signal(layer=5), signal(hit=True), signal(layer=None)):
        metrics.published(one.model_dump(mode="json"))
    seen = samples(metrics)
    name = "earlybird_signals_published_total"
    assert seen[name, (("exit_reason", "confidence"), ("label", "positive"))] == 3
    assert seen["earlybird_dedup_hits_total", ()] == 1
    assert seen["earlybird_retractions_total", ()] == 1
    depths = [seen["earlybird_exit_layer_bucket", (("le", f"{layer}.0"),)] for layer in range(1, 9)]
    assert depths == [0, 1, 1, 1, 2, 2, 2, 2]


def test_stages_add_up_to_the_latency() -> None:
    """Between ingestion and emission no time is unaccounted for."""
    metrics = Metrics(max_layers=8)
    metrics.published(signal().model_dump(mode="json"))
    seen = samples(metrics)
    stages = {n: seen["earlybird_stage_latency_seconds_sum", (("stage", n),)] for n, _, _ in STAGES}
    assert stages == pytest.approx({"provider": 0, "read": 0.001, "prepare": 0.002, "engine": 0.006, "publish": 0.001})
    assert seen["earlybird_signal_latency_seconds_sum", ()] == pytest.approx(sum(stages.values()))


def test_every_reason_is_there_before_it_happens() -> None:
    """An alert on a rate needs the zero before the one."""
    metrics = Metrics(max_layers=8)
    assert {samples(metrics)["earlybird_dlq_total", (("reason", reason.value),)] for reason in Reason} == {0}
    metrics.rejected(Reason.LANGUAGE, 3)
    assert samples(metrics)["earlybird_dlq_total", (("reason", "language"),)] == 3


def test_lag_of_a_partition_that_moved_away_is_not_shown_any_more() -> None:
    """Two workers must not both claim it."""
    metrics = Metrics(max_layers=8)
    metrics.lag({Partition("news.raw", 0): 5, Partition("news.raw", 1): 7})
    metrics.lag({Partition("news.raw", 1): 6})
    lag = {labels: value for (name, labels), value in samples(metrics).items() if name.endswith("lag_messages")}
    assert lag == {(("partition", "1"), ("topic", "news.raw")): 6}


def test_figures_are_read_when_asked_for() -> None:
    """Running totals that others keep; what a process does not have, it does not show."""
    metrics, values = Metrics(max_layers=8), {"engine.passes": 10, "cache.hits": 3, "cache.misses": 0, "ready": True}
    metrics.watch(lambda: values)
    values["engine.passes"] = 25
    seen = samples(metrics)
    assert seen["earlybird_encoder_iterations_total", ()] == 25
    assert seen["earlybird_ready", ()] == 1
    lookups = {labels[0][1]: value for (name, labels), value in seen.items() if "cache_lookups" in name}
    assert lookups == {"hit": 3, "miss": 0}
    assert not [name for name, _ in seen if name.startswith("earlybird_commits")]


def test_names_and_units_are_as_prometheus_has_them() -> None:
    """Counters end in _total, durations are in seconds; nothing is there twice; both formats can be parsed."""
    metrics = Metrics(max_layers=8)
    metrics.watch(lambda: dict.fromkeys(FIGURES, 1))
    metrics.published(signal().model_dump(mode="json"))
    kind, page = metrics.page("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3")
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    strict = list(openmetrics.text_string_to_metric_families(page.decode()))
    kind, page = metrics.page("text/plain")
    assert kind.startswith("text/plain; version=0.0.4")
    plain = list(text_string_to_metric_families(page.decode()))
    for families in (strict, plain):
        names = [family.name for family in families]
        assert len(names) == len(set(names))
        for family in families:
            ends = {sample.name.removeprefix(family.name) for sample in family.samples}
            assert family.type != "counter" or ends <= {"_total"}, family.name
            assert not {"_ms", "_us", "_minutes", "_kb"} & {family.name[-3:], family.name[-8:]}
    assert {family.name for family in strict} == {family.name for family in plain}
    process = {"cpu_seconds", "resident_memory_bytes", "start_time_seconds", "open_fds"}
    assert {f"process_{name}" for name in process} <= {family.name for family in strict}


def test_history_drives_no_latency() -> None:
    """A back-dated feed has ages of years; what happens to its texts in here takes as long as for any other."""
    metrics = Metrics(max_layers=8)
    metrics.published(signal().model_dump(mode="json"), live=False)
    seen = samples(metrics)
    counts = {name: seen["earlybird_stage_latency_seconds_count", (("stage", name),)] for name, _, _ in STAGES}
    assert counts == {"provider": 0, "read": 0, "prepare": 1, "engine": 1, "publish": 1}
    assert seen["earlybird_signal_latency_seconds_count", ()] == 0


def test_the_build_is_named() -> None:
    """In the labels of a constant 1, for joins with everything else."""
    metrics = Metrics(max_layers=8)
    metrics.model(signal().model)
    (labels,) = [dict(labels) for name, labels in samples(metrics) if name == "earlybird_build_info"]
    assert set(labels) == {"version", "model_sha256", "config_hash", "numerics", "dtype", "device"}


def test_two_sets_of_metrics_live_in_one_process() -> None:
    """Nothing is registered globally: tests and replays run several stages."""
    first, second = Metrics(max_layers=2), Metrics(max_layers=4)
    first.consumed("news.raw", "news", 2)
    assert ("earlybird_texts_consumed_total", (("item_type", "news"), ("topic", "news.raw"))) not in samples(second)


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def metrics_page(accepted: str) -> tuple[str, bytes]:
    return "text/plain", b"m 1\n" if not accepted else f"accepted {accepted}".encode()


def served(
    loop_age_s: Callable[[], float] = lambda: 0.0, readiness: Callable[[], Readiness] = Readiness
) -> HealthServer:
    return HealthServer("127.0.0.1", 0, loop_age_s=loop_age_s, readiness=readiness, metrics=metrics_page)


def test_health_follows_the_loops_beat() -> None:
    """A loop that hangs is unhealthy, and healthy again when it comes round."""
    age = [0.0]
    with served(loop_age_s=lambda: age[0]) as server:
        assert ask(f"{server.url}/healthz")[0] == 200
        age[0] = LIVENESS_TIMEOUT_S
        status, body = ask(f"{server.url}/healthz")
        assert (status, json.loads(body)) == (503, {"healthy": False, "loop_age_s": 5.0})


def test_ready_names_what_is_missing_and_a_missing_cache_is_no_obstacle() -> None:
    """Redis away: every text is computed, so the worker stays in service."""
    state = [Readiness(waiting=("assignment",))]
    with served(readiness=lambda: state[0]) as server:
        status, body = ask(f"{server.url}/readyz")
        assert (status, json.loads(body)["waiting"]) == (503, ["assignment"])
        state[0] = Readiness(degraded=("redis",))
        status, body = ask(f"{server.url}/readyz")
        assert (status, json.loads(body)) == (200, {"ready": True, "waiting": [], "degraded": ["redis"]})


def test_metrics_are_served_and_other_paths_are_not() -> None:
    """A scraper finds them at the usual place."""
    with served() as server:
        assert ask(f"{server.url}/metrics") == (200, "m 1\n")
        assert ask(f"{server.url}/secrets")[0] == 404


def test_a_port_in_use_is_a_setting_that_cannot_work() -> None:
    """Two workers on one machine need two ports; the error names the one."""
    said = r"cannot listen on 127\.0\.0\.1:{}: .*EARLYBIRD_HTTP__PORT"
    with served() as server, pytest.raises(SettingsError, match=said.format(server.port)):
        HealthServer("127.0.0.1", server.port, loop_age_s=lambda: 0.0, readiness=Readiness, metrics=metrics_page)


def spoken(server: HealthServer, request: bytes) -> bytes:
    """All that a peer hears that says this and then listens."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as peer:
        peer.sendall(request)
        heard = b""
        while received := peer.recv(65_536):
            heard += received
        return heard


def test_head_is_get_without_a_body() -> None:
    """Load balancers ask so."""
    with served() as server:
        for path in ("/healthz", "/readyz", "/metrics", "/none"):
            asked = {
                method: spoken(server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                for method in ("GET", "HEAD")
            }
            head, _, body = asked["GET"].partition(b"\r\n\r\n")
            assert body and asked["HEAD"] == head + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n\r\n", 200),
        (b"GET /healthz?verbose HTTP/1.0\n\n", 200),
        (b"POST /healthz HTTP/1.1\r\n\r\n", 405),
        (b"GET //healthz HTTP/1.1\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET /healthz\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 3_000 + b"\r\n", 431),
    ],
    ids=lambda _: "",
)
def test_a_request_has_its_status(request_line: bytes, status: int) -> None:
    """And whatever is said is answered shortly, without a line in the log."""
    with served() as server, capture_logs() as lines:
        try:
            heard = spoken(server, request_line)
        except ConnectionResetError:  # it went on talking after it was answered
            assert status == 431
        else:
            assert heard.startswith(f"HTTP/1.0 {status} ".encode())
        assert ask(f"{server.url}/healthz")[0] == 200
    assert lines == []


def test_the_scrapers_choice_of_format_is_heard() -> None:
    """The Accept header, in any case."""
    with served() as server:
        heard = spoken(server, b"GET /metrics HTTP/1.1\r\nACCEPT: application/openmetrics-text; version=1.0.0\r\n\r\n")
        assert heard.endswith(b"accepted application/openmetrics-text; version=1.0.0")


def test_silent_peers_keep_no_probe_out(until: Callable[[Callable[[], bool]], None]) -> None:
    """Half-open connections: more than there may be, and a probe is answered all the same; threads stay few."""
    before = threading.active_count()
    with served() as server:
        peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4 * MOST_CONNECTIONS)]
        for peer in peers[::2]:
            with suppress(OSError):  # the oldest are gone
                peer.sendall(b"GET /heal")
        assert ask(f"{server.url}/healthz")[0] == 200
        assert threading.active_count() - before <= 2 * MOST_CONNECTIONS + 1
        for peer in peers:
            peer.close()
        until(lambda: threading.active_count() - before <= 1)


def test_a_connection_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a byte now and then, or does not read its answer."""
    monkeypatch.setattr("earlybird.stream.observability.health.LIFETIME_S", 0.0)
    with served() as server, socket.create_connection(("127.0.0.1", server.port), timeout=30) as peer:
        peer.sendall(b"GET /healthz HT")
        with suppress(ConnectionResetError):
            assert peer.recv(1) == b""


def test_a_peer_that_leaves_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """A probe that lost its patience is no fault of ours."""
    served_pages, goes_on = threading.Event(), threading.Event()

    def slow(_: str) -> tuple[str, bytes]:
        served_pages.set()
        goes_on.wait()
        return "text/plain", b"x" * 10_000_000

    with HealthServer("127.0.0.1", 0, loop_age_s=lambda: 0.0, readiness=Readiness, metrics=slow) as server:
        peer = socket.create_connection(("127.0.0.1", server.port))
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, at once
        peer.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        served_pages.wait()
        peer.close()
        goes_on.set()
        assert ask(f"{server.url}/healthz")[0] == 200
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_a_page_that_fails_is_an_error_and_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    """Not a closed connection."""

    def broken() -> Readiness:
        raise ValueError("no")

    with served(readiness=broken) as server, capture_logs() as lines:
        assert ask(f"{server.url}/readyz")[0] == 500
    assert [line["event"] for line in lines] == ["health.failed"]


def test_an_address_of_version_six_can_be_served() -> None:
    """Pods may have no other."""
    try:
        server = HealthServer("::1", 0, loop_age_s=lambda: 0.0, readiness=Readiness, metrics=metrics_page)
    except SettingsError:
        pytest.skip("this machine has no IPv6")
    with server:
        assert ask(f"{server.url}/healthz")[0] == 200


def test_consumer_processes_are_one_exposition_in_either_format() -> None:
    """Each family once: consumer processes' series by number, the engine's without one; no empty series."""
    engine, consumers = Metrics(max_layers=8), [Metrics(max_layers=8) for _ in range(2)]
    engine.watch(lambda: {"engine.busy_s": 2.5})
    for number, consumer in enumerate(consumers):
        consumer.consumed("news.raw", "news", 5 + number)
        consumer.published(signal().model_dump(mode="json"))
        consumer.watch(lambda: {"ready": 1, "cache.hits": 3})
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                HealthServer("127.0.0.1", 0, loop_age_s=lambda: 0.0, readiness=Readiness, metrics=one.page)
            )
            for one in consumers
        ]
        health = MergedHealth(lambda: [server.port for server in servers], engine.exposition)
        strict = openmetrics.text_string_to_metric_families(health.page("application/openmetrics-text")[1].decode())
        plain = text_string_to_metric_families(health.page()[1].decode())
        for families in (list(strict), list(plain)):
            names = [family.name for family in families]
            assert len(names) == len(set(names))
            series = {
                (s.name, s.labels.get("consumer_process")): s.value for family in families for s in family.samples
            }
            assert [series["earlybird_texts_consumed_total", number] for number in ("0", "1")] == [5, 6]
            assert [series["earlybird_ready", number] for number in ("0", "1")] == [1, 1]
            assert series["earlybird_engine_busy_seconds_total", None] == 2.5
            assert {("process_cpu_seconds_total", number) for number in (None, "0", "1")} <= set(series)
