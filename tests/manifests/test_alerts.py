"""Alerts and autoscaling ask for metrics that our servers have, with the labels that they have."""

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from predictor.edge.metrics import RequestMetrics
from predictor.engine.course import Course
from predictor.metrics import Metrics
from predictor.outcome import Ending, Outcome
from tests.manifests.render import ROOT, kustomize, one

pytestmark = pytest.mark.manifests

SCRAPED = {"namespace", "pod", "component", "inferenceservice"}
"""Labels from Prometheus and from the ServiceMonitor's relabelings."""


def _metrics() -> dict[str, set[str]]:
    """Names and labels of what the servers export."""
    registry = CollectorRegistry()
    RequestMetrics(registry).count({"model": "emoji"}, 200, 1.0)
    metrics = Metrics(registry)
    row = Course(0.0, 0.0, 0.0, 0.0, 0.0)
    for ending in Ending:
        metrics.ended(Outcome("emoji", ["notoemoji@1"], [row], ending, 0.0))
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)\{(.*?)\} ", generate_latest(registry).decode(), re.MULTILINE):
        found.setdefault(name, set()).update(re.findall(r"(\w+)=", labels))
    # the engine's gauges need an engine: their names are read where they are made
    source = Path(ROOT, "predictor/gauges.py").read_text()
    return found | {name: set() for name in re.findall(r'"(emoji_\w+)"', source)}


def _expressions() -> list[str]:
    gpu = kustomize("overlays/gpu")
    rules = one(gpu, "PrometheusRule", "emoji")["spec"]["groups"][0]["rules"]
    metrics = one(gpu, "InferenceService", "emoji")["spec"]["predictor"]["autoScaling"]["metrics"]
    return [*(rule["expr"] for rule in rules), metrics[0]["external"]["metric"]["query"]]


def test_expressions_name_metrics_and_labels_that_exist() -> None:
    metrics, used = _metrics(), set()
    for expression in _expressions():
        names = re.findall(r"\b(emoji_\w+)(?:\{(.*?)\})?", expression)
        assert names, expression
        for name, matchers in names:
            used.add(name)
            assert name in metrics, f"{name} in {expression}"
            assert set(re.findall(r"(\w+)\s*=", matchers)) <= metrics[name] | SCRAPED, expression
    assert used == {
        *("emoji_requests_total", "emoji_request_seconds_bucket", "emoji_queue_rows"),
        *("emoji_failed_pictures_total", "emoji_pictures_total"),
    }


def test_monitor_rules_and_alerts_agree_on_labels() -> None:
    monitor = one(kustomize("overlays/gpu"), "ServiceMonitor", "emoji")
    for endpoint in monitor["spec"]["endpoints"]:
        made = {relabeling["targetLabel"] for relabeling in endpoint["relabelings"]}
        assert made == {"component", "inferenceservice"}
    service = one(kustomize("overlays/gpu"), "Service", "emoji-metrics")
    assert {port["name"] for port in service["spec"]["ports"]} == {
        e["port"] for e in monitor["spec"]["endpoints"]
    }
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
