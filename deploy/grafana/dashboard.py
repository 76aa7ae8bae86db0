"""Write earlybird.json, the Grafana dashboard, from the table below: python deploy/grafana/dashboard.py

Every panel filters by the variables `job` and `instance`; JOB stands for that filter.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("earlybird.json")
FILTER = 'job=~"$job", instance=~"$instance"'
RATE = "[$__rate_interval]"


class Panel(NamedTuple):
    """One panel: title, unit as Grafana names it, queries with their legends, kind and width of 24."""

    title: str
    unit: str
    queries: dict[str, str]  # legend -> PromQL
    kind: str = "timeseries"
    width: int = 12
    stacked: bool = False
    about: str = ""


def rate(metric: str, by: str = "", more: str = "") -> str:
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{JOB{more}}}{RATE}))"


def quantile(share: float, metric: str, by: str = "", more: str = "") -> str:
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le{by}', more)})"


LATENCY = "earlybird_signal_latency_seconds"
STAGE = "earlybird_stage_latency_seconds"
GLANCE = {"kind": "stat", "width": 4}

ROWS: dict[str, tuple[Panel, ...]] = {
    "At a glance": (
        Panel("Workers ready", "none", {"ready": "sum(earlybird_ready{JOB})"}, **GLANCE),
        Panel("Texts per second", "short", {"texts": rate("earlybird_texts_consumed_total")}, **GLANCE),
        Panel("Latency p95, live texts", "s", {"p95": quantile(0.95, LATENCY)}, **GLANCE),
        Panel("Records not yet read", "short", {"lag": "sum(earlybird_consumer_lag_messages{JOB})"}, **GLANCE),
        Panel("Oldest unfinished text", "s", {"age": "max(earlybird_oldest_unprocessed_seconds{JOB})"}, **GLANCE),
        Panel("Dead letters per second", "short", {"dead": rate("earlybird_dlq_total")}, **GLANCE),
    ),
    "Signals": (
        Panel(
            "Exit layer",
            "short",
            {"{{le}}": "sum by (le) (increase(earlybird_exit_layer_bucket{JOB}" + RATE + "))"},
            kind="heatmap",
            about="How deep texts went before they left. A shift is a change of texts or of the policy.",
        ),
        Panel(
            "Signals by label", "short", {"{{label}}": rate("earlybird_signals_published_total", "label")}, stacked=True
        ),
        Panel(
            "Mean exit layer",
            "none",
            {"layers": f"{rate('earlybird_exit_layer_sum')} / {rate('earlybird_exit_layer_count')}"},
        ),
        Panel(
            "Signals by reason of exit",
            "short",
            {"{{exit_reason}}": rate("earlybird_signals_published_total", "exit_reason")},
            stacked=True,
        ),
    ),
    "Latency of live texts": (
        Panel("From ingestion to signal", "s", {f"p{int(q * 100)}": quantile(q, LATENCY) for q in (0.5, 0.95, 0.99)}),
        Panel(
            "By stage, p95",
            "s",
            {"{{stage}}": quantile(0.95, STAGE, ", stage")},
            about="provider: before us. read: backlog. prepare: wait for a slot. publish: the broker.",
        ),
    ),
    "Backlog": (
        Panel("Records not yet read", "short", {"{{topic}}": "sum by (topic) (earlybird_consumer_lag_messages{JOB})"}),
        Panel(
            "Texts in flight",
            "short",
            {
                "unfinished": "sum(earlybird_unfinished_texts{JOB})",
                "limit": "sum(earlybird_in_flight_limit_texts{JOB})",
                "wait for a slot": "sum(earlybird_engine_queue_texts{JOB})",
            },
        ),
        Panel(
            "Oldest unfinished text",
            "s",
            {"{{instance}}": "max by (instance) (earlybird_oldest_unprocessed_seconds{JOB})"},
        ),
        Panel(
            "Records behind an open transaction",
            "short",
            {"{{topic}}/{{partition}}": "max by (topic, partition) (earlybird_unreadable_records{JOB})"},
        ),
    ),
    "Engine": (
        Panel(
            "Utilisation",
            "percentunit",
            {
                "{{instance}}": f"{rate('earlybird_engine_busy_seconds_total', 'instance')}"
                " / sum by (instance) (earlybird_engine_threads{JOB})"
            },
            about="Share of the engine threads' time in passes. Latency grows fast above 0.8.",
        ),
        Panel(
            "Slots",
            "short",
            {"active": "sum(earlybird_slots_active{JOB})", "all": "sum(earlybird_slots_capacity{JOB})"},
        ),
        Panel("Tokens per second, once per pass", "short", {"tokens": rate("earlybird_engine_tokens_total")}),
        Panel("Passes per second", "short", {"passes": rate("earlybird_encoder_iterations_total")}),
    ),
    "Dead letters and corrections": (
        Panel("Dead letters by reason", "short", {"{{reason}}": rate("earlybird_dlq_total", "reason")}, stacked=True),
        Panel("Retractions", "short", {"retractions": rate("earlybird_retractions_total")}),
    ),
    "Duplicate cache": (
        Panel(
            "Lookups by result", "short", {"{{result}}": rate("earlybird_cache_lookups_total", "result")}, stacked=True
        ),
        Panel(
            "State",
            "none",
            {
                "{{instance}} in use": "earlybird_cache_up{JOB}",
                "{{instance}} writable": "earlybird_cache_writable{JOB}",
            },
        ),
        Panel("Duplicates", "short", {"duplicates": rate("earlybird_dedup_hits_total")}),
        Panel("Calls by result", "short", {"{{result}}": rate("earlybird_cache_calls_total", "result")}),
    ),
    "Kafka": (
        Panel("Commits by result", "short", {"{{result}}": rate("earlybird_commits_total", "result")}),
        Panel(
            "Deliveries that failed or were repeated",
            "short",
            {"failed": rate("earlybird_produce_errors_total"), "repeated": rate("earlybird_produce_retries_total")},
        ),
        Panel(
            "Rebalances",
            "short",
            {"{{instance}}": "sum by (instance) (increase(earlybird_rebalances_total{JOB}[15m]))"},
        ),
        Panel(
            "Connected brokers",
            "short",
            {"{{instance}} {{client}}": "min by (instance, client) (earlybird_brokers_connected{JOB})"},
        ),
    ),
    "Process": (
        Panel("CPU", "short", {"{{instance}}": rate("process_cpu_seconds_total", "instance")}),
        Panel("Memory", "bytes", {"{{instance}}": "sum by (instance) (process_resident_memory_bytes{JOB})"}),
        Panel(
            "Models in use",
            "none",
            {
                "{{version}} {{model_sha256}} {{numerics}}": "count by (version, model_sha256, numerics) "
                "(earlybird_build_info{JOB})"
            },
            width=24,
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"x": 0, "y": top, "w": 24, "h": 1}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": place})
        top, left = top + 1, 0
        height = 4 if row[0].kind == "stat" else 8
        for panel in row:
            place = {"x": left, "y": top, "w": panel.width, "h": height}
            panels.append({"id": len(panels) + 1, "gridPos": place, **drawn(panel)})
            left += panel.width
            if left >= 24:
                left, top = 0, top + height
        top += height if left else 0
    return {
        "uid": "earlybird",
        "title": "earlybird",
        "tags": ["kafka", "sentiment"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [SOURCE, variable("job", "{}"), variable("instance", '{job=~"$job"}')]},
        "panels": panels,
    }


SOURCE = {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def variable(name: str, filtered: str) -> dict[str, Any]:
    selector = f"earlybird_build_info{filtered if filtered != '{}' else ''}"
    query = f"label_values({selector}, {name})"
    return {
        "name": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "$source"},
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
    }


def drawn(panel: Panel) -> dict[str, Any]:
    """A panel without its place."""
    source = {"type": "prometheus", "uid": "$source"}
    targets = [
        {
            "refId": chr(ord("A") + number),
            "datasource": source,
            "expr": query.replace("JOB", FILTER),
            "legendFormat": legend,
            **({"format": "heatmap"} if panel.kind == "heatmap" else {}),
        }
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    custom = {"fillOpacity": 20, "stacking": {"mode": "normal"}} if panel.stacked else {}
    options: dict[str, Any] = {}
    if panel.kind == "heatmap":
        options = {"calculate": False, "yAxis": {"unit": "short"}}
    elif panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"}
    about = {"description": panel.about} if panel.about else {}
    return {
        "type": panel.kind,
        "title": panel.title,
        **about,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": options,
        "targets": targets,
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
