"""Alerts and dashboard name what a stage exports, and each alert has its paragraph and its unit tests."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNTIL = Callable[[Callable[[], object], str], None]


def names(expression: str) -> set[str]:
    """Names of metrics in a query."""
    return set(re.findall(r"\b(?:earlybird|process)_\w+", re.sub(r"by \([^)]*\)", "", expression)))


@pytest.mark.timeout(300)
def test_every_metric_in_rules_dashboard_and_scaler_is_exported(
    servers: Any, start_stage: Callable[..., Any], rules: Any, queries: Any, get: Any, publish: Any, until: UNTIL
) -> None:
    """By a live stage that has read, computed, written dead letters and answered duplicates."""
    broker, redis = servers
    stage = start_stage(broker.bootstrap_servers, REDIS__URL=redis.url)
    url = stage.wait_for("service.started", 200)["health"] + "/metrics"
    stage.wait_for("partitions.assigned")
    publish(broker.bootstrap_servers, 100)
    until(lambda: 'earlybird_dlq_total{reason="malformed"} 1.0' in get(url), "a dead letter")
    until(lambda: "earlybird_brokers_connected{" in get(url), "statistics of the clients")
    exported = {re.split(r"[{ ]", line)[0] for line in get(url).splitlines() if not line.startswith("#")}
    # Series of partitions exist only while there is something to say of them.
    exported.add("earlybird_unreadable_records")
    scaler = (DEPLOY / "kubernetes" / "components" / "autoscaling" / "scaledobject.yaml").read_text(encoding="utf-8")
    for where, text in {**{name: rule["expr"] for name, rule in rules.items()}, **queries, "scaler": scaler}.items():
        assert names(text) <= exported, f"{where}: {names(text) - exported}"
    assert stage.end() == 0


def test_every_alert_has_a_paragraph_and_its_link(rules: Any) -> None:
    """And the page has none for an alert that is gone."""
    page = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    paragraphs = dict(re.findall(r"^### (Earlybird\w+)\n\n(.+?)\n(?=\n#|\Z)", page, re.MULTILINE | re.DOTALL))
    assert list(paragraphs) == list(rules)
    for name, rule in rules.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert all(f"**{word}.**" in paragraphs[name] for word in ("Means", "Look at", "Do")), name


def test_every_alert_fires_in_one_unit_test_and_is_silent_in_another(rules: Any) -> None:
    """Which promtool runs (`make test-deploy`)."""
    scenarios = yaml.safe_load((DEPLOY / "prometheus" / "earlybird.rules.test.yml").read_text(encoding="utf-8"))
    cases = [case for scenario in scenarios["tests"] for case in scenario["alert_rule_test"]]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(rules)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(rules)


def test_the_dashboard_is_up_to_date() -> None:
    """`python deploy/grafana/dashboard.py` writes it."""
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana" / "dashboard.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DEPLOY / "grafana" / "earlybird.json").read_text(encoding="utf-8") == module.text()
