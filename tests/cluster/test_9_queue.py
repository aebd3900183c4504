"""KEDA scales by the engine's queue, which Prometheus scrapes: components `monitoring` and `keda`, live."""

import asyncio
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, until
from tests.cluster.load import Load, failed
from tests.cluster.modes import MODE, OUT, SERVICES, only_standard
from tests.cluster.overlay import write_kustomization
from tests.cluster.prometheus import Prometheus
from tests.cluster.questions import LIGHT, LONG
from tests.cluster.report import Section
from tests.cluster.service import KSERVE, NAME, START_S, Service

pytestmark = pytest.mark.cluster

TYPES = {"servicemonitors.monitoring.coreos.com", "prometheusrules.monitoring.coreos.com"}
TARGETS = {(NAME, "predictor"), (NAME, "transformer")}
"""InferenceService and component of each server."""
if MODE == "Standard":
    TYPES |= {"scaledobjects.keda.sh"}
else:
    TARGETS |= {(f"{NAME}-grpc", "transformer")}
PROMETHEUS = "http://prometheus-operated.monitoring:9090"
"""As in the component and in the chart."""
SCRAPED_S = 180.0
"""The operator's and the kubelet's time to hand a new target to Prometheus, and two scrapes."""
OUT_S = 300.0
"""A scrape, KEDA's question, the autoscaler's period, and a pod's start on a busy machine."""
IN_S = 480.0
"""An autoscaler waits five minutes before it takes a pod away, unless KServe's settings say otherwise."""
ROWS = 1
"""Pictures waiting, per pod, that the test asks for: few, since a pod of the test draws one at a time."""


@pytest.fixture(scope="module")
def prometheus(cluster: Cluster) -> Prometheus:
    return Prometheus(cluster, PROMETHEUS)


@pytest.fixture(scope="module")
def watched(cluster: Cluster, prometheus: Prometheus) -> Iterator[Service]:
    """The service with `monitoring`, and in Standard mode `keda`; its namespace and host are its own."""
    known = set(cluster.kubectl("get", "crd", "-o", "jsonpath={.items[*].metadata.name}").split())
    missing = sorted(TYPES - known)
    if not prometheus.exists():
        missing.append(PROMETHEUS)
    if missing:
        pytest.skip(f"NOT TESTED, no {', '.join(missing)} here. `make cluster-up KEDA=1` brings them")
    with cluster.namespace("t-queue") as namespace:
        folder = OUT / "kustomize-queue"
        if MODE == "Standard":
            metric = "/spec/predictor/autoScaling/metrics/0/external"
            query = f'sum(emoji_queue_rows{{namespace="{namespace}", inferenceservice="{NAME}"}})'
            changes: list[dict[str, Any]] = [
                {"op": "replace", "path": f"{metric}/metric/query", "value": query},
                {"op": "replace", "path": f"{metric}/target/value", "value": str(ROWS)},
                {"op": "replace", "path": "/spec/predictor/maxReplicas", "value": 2},
                {"op": "add", "path": "/spec/predictor/model/args/-", "value": "--max_batch_size=1"},
            ]
            host = [{"op": "replace", "path": "/spec/hostnames", "value": ["queue.example.com"]}]
            patches = ((f"InferenceService/{NAME}", changes), (f"HTTPRoute/{NAME}", host))
            write_kustomization(folder, namespace, ("monitoring", "monitoring/standard", "keda"), patches)
        else:
            write_kustomization(folder, namespace, ("monitoring",))
        cluster.kubectl("apply", "-k", str(folder))
        service = SERVICES[MODE](cluster, namespace)
        service.wait()
        yield service


def condition(found: dict[str, Any], kind: str) -> str:
    """What an object says of itself, such as "True"; empty before it says anything."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")


def test_metrics_are_scraped(watched: Service, prometheus: Prometheus, evidence: Section) -> None:
    """Prometheus scrapes every server, and has the queue with the labels of KEDA's query"""
    namespace = watched.namespace

    def up() -> list[dict[str, Any]] | None:
        targets = prometheus.targets(namespace)
        return targets if len(targets) == len(TARGETS) and {t["health"] for t in targets} == {"up"} else None

    targets = until("every server is scraped", up, SCRAPED_S)
    for target in targets:
        evidence.fact(f"target {target['scrapeUrl']}", target["labels"])
        assert target["lastError"] == ""
    labelled = {(target["labels"]["inferenceservice"], target["labels"]["component"]) for target in targets}
    assert labelled == TARGETS
    (pod,) = watched.ready_pods("predictor")
    ((labels, rows),) = prometheus.values(f'emoji_queue_rows{{namespace="{namespace}"}}')
    evidence.fact("emoji_queue_rows", {**labels, "value": rows})
    assert (labels["inferenceservice"], labels["component"]) == (NAME, "predictor")
    assert labels["pod"] == pod.metadata.name


def test_alerts_are_evaluated(watched: Service, prometheus: Prometheus, evidence: Section) -> None:
    """Prometheus evaluates the alerts of the PrometheusRule, and one rises when requests fail"""
    namespace = watched.namespace
    written = watched.cluster.object("monitoring.coreos.com/v1", "prometheusrules", namespace, NAME)
    rules = [rule for group in written["spec"]["groups"] for rule in group["rules"]]

    async def ask() -> None:
        """For a picture, and for one that comes too late."""
        ingress = watched.ingress()
        async with ingress.http() as client:
            await ingress.v2(client, LIGHT[0])
            prompt = {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["a red apple"]}
            late = {"inputs": [prompt], "parameters": {"timeout_ms": 1}}
            assert (await client.post("/v2/models/emoji/infer", json=late)).status_code == 504

    def states() -> dict[str, str]:
        asyncio.run(ask())
        return {rule["name"]: rule["state"] for rule in prometheus.alerts(namespace)}

    until("the alert is pending", lambda: states().get("EmojiRequestsFail") == "pending", SCRAPED_S)
    found = prometheus.alerts(namespace)
    for rule in found:
        evidence.fact(rule["name"], f"{rule['health']}, {rule['state']}")
        assert rule["health"] == "ok", rule.get("lastError")
    assert {rule["name"] for rule in found} == {rule["alert"] for rule in rules}
    for rule in rules:
        # Without its threshold an alert has a value even while all is well. Of refusals there were none.
        measured = re.sub(r"\s*> [\d.]+$", "", rule["expr"]).replace('status="429"', 'status="200"')
        assert measured != rule["expr"]
        values = [value for labels, value in prometheus.values(measured) if labels["namespace"] == namespace]
        evidence.fact(f"{rule['alert']}, before its threshold", [round(value, 3) for value in values])
        assert values
        assert not any(math.isnan(value) for value in values)


@only_standard
def test_queue_scales(watched: Service, prometheus: Prometheus, evidence: Section) -> None:
    """By a ScaledObject of KServe's a queue brings a second pod; without one it goes; no request fails"""
    cluster, namespace = watched.cluster, watched.namespace

    def made() -> dict[str, Any] | None:
        found = cluster.objects("keda.sh/v1alpha1", "scaledobjects", namespace)
        return next((scaler for scaler in found if condition(scaler, "Ready") == "True"), None)

    scaler = until("the ScaledObject is ready", made, SCRAPED_S)
    (owner,), (trigger,) = scaler["metadata"]["ownerReferences"], scaler["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    evidence.fact("the ScaledObject's trigger", {"type": trigger["type"], **trigger["metadata"]})
    assert (owner["apiVersion"], owner["kind"], owner["name"]) == (KSERVE, "InferenceService", NAME)
    assert scaler["spec"]["scaleTargetRef"]["name"] == f"{NAME}-predictor"
    assert trigger["metadata"]["serverAddress"] == PROMETHEUS
    assert prometheus.values(query) == [({}, 0.0)]

    def autoscaler() -> dict[str, Any]:
        (found,) = cluster.objects("autoscaling/v2", "horizontalpodautoscalers", namespace)
        return found

    def waiting() -> float:
        return sum(rows for _, rows in prometheus.values(query))

    def asked_for() -> int:
        return int(autoscaler().get("status", {}).get("desiredReplicas", 0))

    (metric,) = autoscaler()["spec"]["metrics"]
    evidence.fact("its HorizontalPodAutoscaler asks for", metric["external"]["target"])
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": str(ROWS)}
    until("one predictor pod", lambda: len(watched.ready_pods("predictor")) == 1, IN_S)
    with Load(watched.ingress(), LONG, at_once=5) as load:
        evidence.fact("pictures waiting", until("Prometheus has seen the queue", waiting, OUT_S))
        evidence.fact("start of the load to the queue in Prometheus, s", round(load.clock, 1))
        until("a second pod is asked for", lambda: asked_for() == 2, OUT_S)
        evidence.fact("to a second pod asked for, s", round(load.clock, 1))
        until("two pods are ready", lambda: len(watched.ready_pods("predictor")) == 2, START_S)
        evidence.fact("to the second pod ready, s", round(load.clock, 1))
    evidence.load("five long requests at once", load.outcomes)
    assert failed(load.outcomes) == []
    with Load(watched.ingress(), LIGHT, rate=0.1) as load:  # so that the pod that goes has requests to lose
        until("one pod is left", lambda: len(watched.pods("predictor")) == 1, IN_S)
        evidence.fact("end of the load to one pod, s", round(load.clock, 1))
    evidence.load("a request every ten seconds meanwhile", load.outcomes)
    assert failed(load.outcomes) == []
