"""The log, the metrics and the health endpoints, as an operator's tools see them."""

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from schemas.rejection import Reason
from schemas.signal import Signal
from stream.errors import SettingsError
from stream.health import LONGEST_BEAT_S, HealthServer, Readiness
from stream.logs import configure_logging
from stream.ports import Partition, Position
from stream.telemetry import STAGES, Metrics

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
    structlog.get_logger().info("feeder.started", worker="host-2")
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
    assert stages == pytest.approx({"feed": 0, "read": 0.001, "prepare": 0.002, "engine": 0.006, "publish": 0.001})
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


def test_passes_are_counted_from_running_totals() -> None:
    """Engine threads keep sums; the counter must not add them twice."""
    metrics = Metrics(max_layers=8)
    for total in (10, 10, 25):
        metrics.passes(total)
    assert samples(metrics)["earlybird_encoder_iterations_total", ()] == 25


def test_two_sets_of_metrics_live_in_one_process() -> None:
    """Nothing is registered globally: tests and replays run several stages."""
    first, second = Metrics(max_layers=2), Metrics(max_layers=4)
    first.consumed("news.raw", "news", 2)
    assert ("earlybird_texts_consumed_total", (("item_type", "news"), ("topic", "news.raw"))) not in samples(second)


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def served(
    beat_age_s: Callable[[], float] = lambda: 0.0, readiness: Callable[[], Readiness] = Readiness
) -> HealthServer:
    return HealthServer("127.0.0.1", 0, beat_age_s=beat_age_s, readiness=readiness, metrics=lambda: b"m 1\n")


def test_health_follows_the_loops_beat() -> None:
    """A loop that hangs is unhealthy, and healthy again when it comes round."""
    age = [0.0]
    with served(beat_age_s=lambda: age[0]) as server:
        assert ask(f"{server.url}/healthz")[0] == 200
        age[0] = LONGEST_BEAT_S
        status, body = ask(f"{server.url}/healthz")
        assert (status, json.loads(body)) == (503, {"healthy": False, "beat_age_s": 5.0})


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
        HealthServer("127.0.0.1", server.port, beat_age_s=lambda: 0.0, readiness=Readiness, metrics=lambda: b"")
