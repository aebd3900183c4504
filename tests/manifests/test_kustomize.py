"""Base, components and overlays: each builds, and changes what it is for and nothing else."""

from copy import deepcopy
from typing import Any

import pytest

from tests.cluster.docs import blocks
from tests.manifests.pods import pods_of
from tests.manifests.render import (
    KNATIVE,
    SETTINGS,
    STANDARD,
    Manifest,
    every_setting,
    helm,
    kustomize,
    one,
    render,
    title,
)

pytestmark = pytest.mark.manifests

KUSTOMIZE = [setting for setting in every_setting() if setting.startswith("kustomize:")]


def _look(service: Manifest) -> str:
    env = {item["name"]: item["value"] for item in service["spec"]["predictor"]["model"]["env"]}
    return str(env["DEFAULT_LOOK"])


def _weights(route: Manifest) -> list[dict[str, int]]:
    return [{ref["name"]: ref["weight"] for ref in rule["backendRefs"]} for rule in route["spec"]["rules"]]


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


@pytest.mark.parametrize("setting", every_setting())
def test_the_weights_job_fills_the_claims_that_the_predictor_mounts(setting: str) -> None:
    objects = render(setting)
    uris = one(objects, "InferenceService", "emoji")["spec"]["predictor"]["storageUris"]
    assert [uri["mountPath"] for uri in uris[:2]] == ["/mnt/models/base", "/mnt/models/loras"]
    for uri in uris:  # KServe 0.20 would ignore the path
        assert not uri["uri"].startswith("pvc://") or "/" not in uri["uri"].removeprefix("pvc://")
    if setting == "helm:s3":
        assert not [item for item in objects if item["kind"] in ("Job", "PersistentVolumeClaim")]
        return
    claims = {item["metadata"]["name"] for item in objects if item["kind"] == "PersistentVolumeClaim"}
    assert {uri["uri"] for uri in uris} == {f"pvc://{claim}" for claim in claims}
    pod = one(objects, "Job", "emoji-weights")["spec"]["template"]["spec"]
    by_name = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: by_name[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
    assert {path: f"pvc://{claim}" for path, claim in mounts.items()} == {
        u["mountPath"]: u["uri"] for u in uris
    }


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


def test_a_knative_canary_is_two_values() -> None:
    stable = one(kustomize(*KNATIVE), "InferenceService", "emoji")
    canary = deepcopy(one(kustomize(*SETTINGS["knative-canary"]), "InferenceService", "emoji"))
    assert canary["spec"]["predictor"].pop("canaryTrafficPercent") == 10
    assert (_look(stable), _look(canary)) == ("notoemoji@1", "openmoji@1")
    canary["spec"]["predictor"]["model"]["env"][0]["value"] = "notoemoji@1"
    assert canary == stable


def _copy_with(stable: Manifest, look: str) -> Manifest:
    """What a canary of Standard mode is to be: all that the stable service is, under another name."""
    copy = deepcopy(stable)
    copy["metadata"]["name"] = "emoji-canary"
    copy["spec"]["predictor"]["model"]["env"][0]["value"] = look
    for metric in copy["spec"]["predictor"].get("autoScaling", {}).get("metrics", []):
        query = metric["external"]["metric"]["query"]
        metric["external"]["metric"]["query"] = query.replace(
            'inferenceservice="emoji"', 'inferenceservice="emoji-canary"'
        )
    return copy


CANARY = "components/canary/standard"


def test_a_standard_canary_is_a_second_service_without_a_share_before_it_has_pods() -> None:
    objects = kustomize(*STANDARD, CANARY)
    stable, canary = (one(objects, "InferenceService", name) for name in ("emoji", "emoji-canary"))
    assert stable == one(kustomize(*STANDARD), "InferenceService", "emoji")
    assert (_look(stable), _look(canary)) == ("notoemoji@1", "openmoji@1")
    weights = {"emoji-predictor": 100, "emoji-canary-predictor": 0}
    assert _weights(one(objects, "HTTPRoute", "emoji")) == [weights] * 2
    assert canary == _copy_with(stable, "openmoji@1")
    assert not [item for item in objects if item["kind"] == "ConfigMap"]


CHANGES = """
patches:
  - target: {kind: InferenceService, name: "%s"}
    patch: |-
      - {op: add, path: /spec/predictor/serviceAccountName, value: emoji-s3}
      - {op: replace, path: /spec/predictor/minReplicas, value: 3}
      - {op: replace, path: /spec/predictor/storageUris/0/uri, value: "s3://models/base/"}
"""


@pytest.mark.parametrize(
    ("parts", "layers"),
    [
        (("overlays/gpu", CANARY), {}),
        ((*STANDARD, "components/gpu", CANARY), {}),
        ((*STANDARD, CANARY, "components/gpu"), {}),
        ((*STANDARD, "components/keda", CANARY), {}),
        ((*STANDARD, CANARY), {"below": CHANGES % "emoji"}),
        ((*STANDARD, CANARY), {"extra": CHANGES % "emoji(-canary)?"}),
    ],
)
def test_a_standard_canary_inherits_what_was_made_of_the_stable_service(
    parts: tuple[str, ...], layers: dict[str, str]
) -> None:
    objects = kustomize(*parts, **layers)
    stable = one(objects, "InferenceService", "emoji")
    assert stable != one(kustomize(*STANDARD), "InferenceService", "emoji")
    assert one(objects, "InferenceService", "emoji-canary") == _copy_with(stable, "openmoji@1")


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


def _documented(words: str) -> str:
    """The patches of docs/weights.md that have these words."""
    (block,) = (block.code for block in blocks("weights") if block.language == "yaml" and words in block.code)
    return block


def test_slow_weights_get_their_time_by_patches_as_by_the_charts_value() -> None:
    patched = kustomize(*KNATIVE, extra=_documented("progress-deadline"))
    chart = helm("predictor.startupSeconds=1800", values="knative")
    for kind, name in (("ServingRuntime", "emoji-diffusion"), ("InferenceService", "emoji")):
        assert one(patched, kind, name)["spec"] == one(chart, kind, name)["spec"]


@pytest.mark.parametrize("parts", [KNATIVE, (*STANDARD, CANARY)])
def test_weights_in_an_image_are_one_source_for_base_and_looks(parts: tuple[str, ...]) -> None:
    objects = kustomize(*parts, extra=_documented("oci+native"))
    assert not [item for item in objects if item["kind"] in ("Job", "PersistentVolumeClaim")]
    for item in objects:
        if item["kind"] == "InferenceService" and item["metadata"]["name"] != "emoji-grpc":
            (source,) = item["spec"]["predictor"]["storageUris"]
            assert source["mountPath"] == "/mnt/models", "the image has base/ and loras/"


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
