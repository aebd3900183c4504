"""Base, components and overlays: each builds, and changes what it is for and nothing else."""

from typing import Any

import pytest

from tests.manifests.pods import pods_of
from tests.manifests.render import (
    CANARY,
    SETTINGS,
    STANDARD,
    every_setting,
    kustomize,
    one,
    render,
    title,
)

pytestmark = pytest.mark.manifests

KUSTOMIZE = [setting for setting in every_setting() if setting.startswith("kustomize:")]


@pytest.mark.parametrize("setting", KUSTOMIZE)
def test_everything_is_in_one_namespace_and_labelled(setting: str) -> None:
    for item in render(setting):
        assert item["metadata"]["labels"]["app.kubernetes.io/name"] == "emoji-diffusion", title(item)
        assert item["metadata"]["labels"]["app.kubernetes.io/instance"] == "emoji"
        if item["kind"] != "Namespace":
            assert item["metadata"]["namespace"] == "emoji", title(item)
    labels = one(render(setting), "Namespace", "emoji")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", SETTINGS)
def test_another_namespace_and_another_registry_are_one_line_each(name: str) -> None:
    extra = """
namespace: other
images:
  - {name: dev.local/emoji-predictor, newName: registry.example.com/p, newTag: "7"}
  - {name: dev.local/emoji-transformer, newName: registry.example.com/t, newTag: "7"}
  - {name: dev.local/emoji-weights, newName: registry.example.com/w, newTag: "7"}
"""
    objects = kustomize(*SETTINGS[name], extra=extra)
    one(objects, "Namespace", "other")
    for item in objects:
        if item["kind"] != "Namespace":
            assert item["metadata"]["namespace"] == "other", title(item)
    images = {container["image"] for pod in pods_of(objects) for container in pod.spec["containers"]}
    assert images == {f"registry.example.com/{letter}:7" for letter in "ptw"}


@pytest.mark.parametrize("setting", every_setting())
def test_selectors_find_the_pods_they_are_for(setting: str) -> None:
    objects = render(setting)
    pods = [pod for pod in pods_of(objects) if pod.is_server]
    budgets = [item for item in objects if item["kind"] == "PodDisruptionBudget"]
    for pod in pods:
        policies = [
            item for item in objects if item["kind"] == "NetworkPolicy" and _selects(item["spec"], pod.labels)
        ]
        kinds = {kind for policy in policies for kind in policy["spec"]["policyTypes"]}
        is_predictor = pod.labels["app.kubernetes.io/component"] == "predictor"
        closed = is_predictor and setting != "helm:s3"
        assert kinds == ({"Ingress", "Egress"} if closed else {"Ingress"}), pod.name
        assert len([b for b in budgets if _matches(b["spec"]["selector"], pod.labels)]) == 1, pod.name
    for budget in budgets:
        assert any(_matches(budget["spec"]["selector"], pod.labels) for pod in pods), title(budget)


def _selects(spec: dict[str, Any], labels: dict[str, str]) -> bool:
    return _matches(spec["podSelector"], labels)


def _matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", ["knative-tracing", "standard-tracing"])
def test_with_tracing_every_server_knows_the_collector_and_may_talk_to_it(name: str) -> None:
    objects = kustomize(*SETTINGS[name])
    containers = [
        container
        for item in objects
        if item["kind"] in ("ServingRuntime", "InferenceService")
        for container in (
            item["spec"].get("containers") or item["spec"].get("transformer", {}).get("containers", [])
        )
    ]
    assert len(containers) == {"knative-tracing": 3, "standard-tracing": 2}[name]
    for container in containers:
        (variable,) = container["env"]
        assert variable["name"] == "OTEL_EXPORTER_OTLP_ENDPOINT"
        host, port = variable["value"].removeprefix("http://").split(":")
        *_, egress = one(objects, "NetworkPolicy", "emoji-predictor")["spec"]["egress"]
        assert egress["ports"] == [{"protocol": "TCP", "port": int(port)}]
        namespace = egress["to"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        assert host == f"otel-collector.{namespace}"


@pytest.mark.parametrize(
    "parts",
    [
        (*STANDARD, CANARY),
        (*STANDARD, "components/monitoring", "components/monitoring/standard", "components/auth"),
        ("base", "components/grpc", "components/monitoring"),
    ],
)
def test_components_go_where_the_layer_below_is(parts: tuple[str, ...]) -> None:
    objects = kustomize(*parts, below="namespace: pictures\n")
    one(objects, "Namespace", "pictures")
    for item in objects:
        if item["kind"] != "Namespace":
            assert item["metadata"].get("namespace") == "pictures", title(item)


def test_routes_lead_to_ports_of_the_transformer() -> None:
    objects = kustomize(*STANDARD)
    runtime = one(objects, "ServingRuntime", "emoji-diffusion")
    transformer = next(c for c in runtime["spec"]["containers"] if c["name"] == "transformer-container")
    # KServe's Service: port 80 for the first one, the others as they are
    first, *others = (port["containerPort"] for port in transformer["ports"])
    ports = [rule["backendRefs"][0]["port"] for rule in one(objects, "HTTPRoute", "emoji")["spec"]["rules"]]
    assert first == 8090
    assert ports == [*others, 80]


def test_kserve_makes_no_routes_in_the_place_of_ours() -> None:
    for setting in ("kustomize:standard-canary", "helm:standard-canary", "kustomize:gpu", "helm:gpu"):
        for item in render(setting):
            if item["kind"] == "InferenceService":
                assert item["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"


def test_a_knative_predictor_is_reached_from_inside_only() -> None:
    for setting in ("kustomize:knative", "helm:knative", "kustomize:base"):
        spec = one(render(setting), "InferenceService", "emoji")["spec"]
        assert spec["predictor"]["labels"]["networking.knative.dev/visibility"] == "cluster-local"
        assert "networking.knative.dev/visibility" not in spec["transformer"]["labels"]


@pytest.mark.parametrize("setting", every_setting())
def test_kserve_takes_none_of_our_services_for_one_of_many_models(setting: str) -> None:
    for item in render(setting):
        if item["kind"] == "InferenceService":
            predictor = item["spec"]["predictor"]
            # as its IsMMSPredictor has it; its agent would be added, which waits for models that never come
            assert "storageUris" in predictor or predictor["model"]["modelFormat"]["name"] == "huggingface"


def test_gpu_nodes_are_chosen_by_the_resource_alone() -> None:
    # any label would be another program's, such as GPU feature discovery's; the device plugin sets none
    for setting in ("kustomize:gpu", "helm:gpu"):
        predictor = one(render(setting), "InferenceService", "emoji")["spec"]["predictor"]
        assert predictor["model"]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert "nodeSelector" not in predictor
        assert predictor["tolerations"] == [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
        ]


def test_graphs_name_our_service_and_share_out_everything() -> None:
    graphs = [item for item in kustomize("graphs") if item["kind"] == "InferenceGraph"]
    assert [graph["spec"]["nodes"]["root"]["routerType"] for graph in graphs] == [
        "Ensemble",
        "Sequence",
        "Splitter",
    ]
    for graph in graphs:
        steps = graph["spec"]["nodes"]["root"]["steps"]
        hosts = {step["serviceUrl"].split("/")[2] for step in steps}
        assert hosts == {"emoji-transformer.emoji.svc.cluster.local"}
        assert {step["serviceUrl"].split("/", 3)[3] for step in steps} == {
            "v2/models/notoemoji/infer",
            "v2/models/openmoji/infer",
        }
    assert sum(step["weight"] for step in graphs[2]["spec"]["nodes"]["root"]["steps"]) == 100
