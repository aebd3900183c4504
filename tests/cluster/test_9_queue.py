"""KEDA scales by the engine's queue, which Prometheus scrapes: components `monitoring` and `keda`, live."""

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.cluster import Cluster, until
from tests.cluster.load import Load, failed
from tests.cluster.modes import OUT, only_standard
from tests.cluster.overlay import write_kustomization
from tests.cluster.prometheus import Prometheus
from tests.cluster.questions import LIGHT, LONG
from tests.cluster.report import Section
from tests.cluster.service import KSERVE, NAME, START_S
from tests.cluster.standard import StandardService

pytestmark = [pytest.mark.cluster, only_standard]

TYPES = {
    "scaledobjects.keda.sh",
    "servicemonitors.monitoring.coreos.com",
    "prometheusrules.monitoring.coreos.com",
}
SCRAPED_S = 180.0
"""The operator's and the kubelet's time to hand a new target to Prometheus, and two scrapes."""
OUT_S = 300.0
"""A scrape, KEDA's question, the autoscaler's period, and a pod's start on a busy machine."""
IN_S = 480.0
"""An autoscaler waits five minutes before it takes a pod away, unless KServe's settings say otherwise."""
ROWS = 1
"""Pictures waiting, per pod, that the test asks for: few, since a pod of the test draws one at a time."""


@dataclass(frozen=True)
class Scaled:
    """The service with KEDA, and the Prometheus that both know."""

    service: StandardService
    prometheus: Prometheus


@pytest.fixture(scope="module")
def scaled(cluster: Cluster) -> Iterator[Scaled]:
    """In a namespace and with a host of its own, beside the service of the other tests."""
    known = set(cluster.kubectl("get", "crd", "-o", "jsonpath={.items[*].metadata.name}").split())
    if TYPES - known:
        missing = ", ".join(sorted(TYPES - known))
        pytest.skip(f"NOT TESTED, this cluster has no {missing}. `make test-cluster KEDA=1` has them")
    with cluster.namespace("t-queue") as namespace:
        metric = "/spec/predictor/autoScaling/metrics/0/external"
        query = f'sum(emoji_queue_rows{{namespace="{namespace}", inferenceservice="{NAME}"}})'
        changes = [
            {"op": "replace", "path": f"{metric}/metric/query", "value": query},
            {"op": "replace", "path": f"{metric}/target/value", "value": str(ROWS)},
            {"op": "replace", "path": "/spec/predictor/maxReplicas", "value": 2},
            {"op": "add", "path": "/spec/predictor/model/args/-", "value": "--max_batch_size=1"},
        ]
        host = [{"op": "replace", "path": "/spec/hostnames", "value": ["queue.example.com"]}]
        folder = OUT / "kustomize-queue"
        components = ("monitoring", "monitoring/standard", "keda")
        patches = ((f"InferenceService/{NAME}", changes), (f"HTTPRoute/{NAME}", host))
        write_kustomization(folder, namespace, components, patches)
        cluster.kubectl("apply", "-k", str(folder))
        service = StandardService(cluster, namespace)
        service.wait()
        (asked,) = service.spec()["spec"]["predictor"]["autoScaling"]["metrics"]
        yield Scaled(service, Prometheus(cluster, asked["external"]["metric"]["serverAddress"]))


def condition(found: dict[str, Any], kind: str) -> str:
    """ "True", "False" or "Unknown" of an object; empty before it is known."""
    conditions = found.get("status", {}).get("conditions", [])
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "")


def test_metrics_are_scraped(scaled: Scaled, evidence: Section) -> None:
    """Prometheus scrapes both servers of the pod, and has the queue with the labels of KEDA's query"""
    namespace = scaled.service.namespace

    def up() -> list[dict[str, Any]] | None:
        targets = scaled.prometheus.targets(namespace)
        return targets if len(targets) == 2 and all(t["health"] == "up" for t in targets) else None

    targets = until("both servers are scraped", up, SCRAPED_S)
    for target in targets:
        evidence.fact(f"target {target['scrapeUrl']}", target["labels"])
        assert target["lastError"] == ""
        assert target["labels"]["inferenceservice"] == NAME
    assert {target["labels"]["component"] for target in targets} == {"predictor", "transformer"}
    (pod,) = scaled.service.ready_pods("predictor")
    ((labels, rows),) = scaled.prometheus.values(f'emoji_queue_rows{{namespace="{namespace}"}}')
    evidence.fact("emoji_queue_rows", {**labels, "value": rows})
    assert labels["component"] == "predictor"
    assert labels["inferenceservice"] == NAME
    assert labels["pod"] == pod.metadata.name


def test_alerts_are_evaluated(scaled: Scaled, evidence: Section) -> None:
    """Prometheus evaluates the alerts of the PrometheusRule, and none lacks its metrics or labels"""
    namespace, prometheus = scaled.service.namespace, scaled.prometheus
    written = scaled.service.cluster.object("monitoring.coreos.com/v1", "prometheusrules", namespace, NAME)[
        "spec"
    ]["groups"]
    names = {rule["alert"] for group in written for rule in group["rules"]}

    async def ask() -> None:
        """One picture, and one that comes too late: both kinds of requests have then been counted."""
        ingress = scaled.service.ingress()
        async with ingress.http() as client:
            await ingress.v2(client, LIGHT[0])
            late = {
                "inputs": [{"name": "prompt", "datatype": "BYTES", "shape": [1], "data": ["a red apple"]}],
                "parameters": {"timeout_ms": 1},
            }
            assert (await client.post("/v2/models/emoji/infer", json=late)).status_code == 504

    asyncio.run(ask())

    def evaluated() -> list[dict[str, Any]] | None:
        rules = prometheus.alerts(namespace)
        return rules if {r["name"] for r in rules if r["health"] != "unknown"} == names else None

    for rule in until("the alerts are evaluated", evaluated, SCRAPED_S):
        evidence.fact(rule["name"], f"{rule['health']}, {rule['state']}")
        assert rule["health"] == "ok", rule.get("lastError")
    for group in written:
        for rule in group["rules"]:
            # Without its threshold an alert has a value even while all is well; of refusals there were none.
            measured = re.sub(r"\s*> [\d.]+$", "", rule["expr"]).replace('status="429"', 'status="200"')
            assert measured != rule["expr"]

            def values(measured: str = measured) -> list[float]:
                return [
                    value for labels, value in prometheus.values(measured) if labels["namespace"] == namespace
                ]

            seen = until(f"a value of {rule['alert']}", values, SCRAPED_S)
            evidence.fact(f"{rule['alert']}, before its threshold", seen)


def test_queue_scales(scaled: Scaled, evidence: Section) -> None:
    """By a ScaledObject of KServe's a queue brings a second pod; without one it goes; no request fails"""
    service, cluster, namespace = scaled.service, scaled.service.cluster, scaled.service.namespace
    name = f"{NAME}-predictor"

    def made() -> dict[str, Any] | None:
        found = cluster.objects("keda.sh/v1alpha1", "scaledobjects", namespace)
        return next((so for so in found if condition(so, "Ready") == "True"), None)

    scaler = until("the ScaledObject is ready", made, SCRAPED_S)
    (owner,), (trigger,) = scaler["metadata"]["ownerReferences"], scaler["spec"]["triggers"]
    evidence.fact("the ScaledObject's trigger", {"type": trigger["type"], **trigger["metadata"]})
    assert (owner["kind"], owner["name"], owner["apiVersion"]) == ("InferenceService", NAME, KSERVE)
    assert scaler["spec"]["scaleTargetRef"]["name"] == name
    query = trigger["metadata"]["query"]
    assert scaled.prometheus.values(query) == [({}, 0.0)]

    def waiting() -> float:
        return sum(rows for _, rows in scaled.prometheus.values(query))

    def autoscaler() -> dict[str, Any]:
        (found,) = cluster.objects("autoscaling/v2", "horizontalpodautoscalers", namespace)
        return found

    def asked_for() -> int:
        return int(autoscaler().get("status", {}).get("desiredReplicas", 0))

    (metric,) = autoscaler()["spec"]["metrics"]
    evidence.fact("its HorizontalPodAutoscaler asks for", json.dumps(metric["external"]["target"]))
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": str(ROWS)}

    until("one predictor pod", lambda: len(service.ready_pods("predictor")) == 1, IN_S)
    with Load(service.ingress(), LONG, at_once=5) as load:
        seen = until("Prometheus has seen the queue", waiting, OUT_S)
        evidence.fact("start of the load to the queue in Prometheus, s", round(load.clock, 1))
        evidence.fact("pictures waiting then", seen)
        until("a second pod is asked for", lambda: asked_for() == 2, OUT_S)
        evidence.fact("to a second pod asked for, s", round(load.clock, 1))
        until("two pods are ready", lambda: len(service.ready_pods("predictor")) == 2, START_S)
        evidence.fact("to the second pod ready, s", round(load.clock, 1))
    evidence.load("five long requests at once", load.outcomes)
    assert failed(load.outcomes) == []
    with Load(service.ingress(), LIGHT, rate=0.1) as load:  # so that the pod that goes has requests to lose
        until("one pod is left", lambda: len(service.pods("predictor")) == 1, IN_S)
        evidence.fact("end of the load to one pod, s", round(load.clock, 1))
    evidence.load("a request every ten seconds meanwhile", load.outcomes)
    assert failed(load.outcomes) == []
