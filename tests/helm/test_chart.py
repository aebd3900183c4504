"""The chart: the same objects as kustomize, strict values, a canary's states, README and notes."""

import json
import re
import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from tests.manifests.render import CHART, SETTINGS, Manifest, helm, kustomize, one, run

pytestmark = pytest.mark.manifests

CI = sorted(file.name.removesuffix("-values.yaml") for file in (CHART / "ci").glob("*-values.yaml"))


def _comparable(objects: Sequence[Manifest]) -> dict[tuple[str, str], Manifest]:
    """Objects by kind and name, without what only one way has: a namespace, helm's label, its test pod."""
    known = {}
    for item in map(deepcopy, objects):
        item["metadata"].pop("namespace", None)
        item["metadata"]["labels"].pop("app.kubernetes.io/managed-by", None)
        if item["kind"] != "Namespace" and "helm.sh/hook" not in item["metadata"].get("annotations", {}):
            known[item["kind"], item["metadata"]["name"]] = item
    return known


@pytest.mark.parametrize("name", SETTINGS)
def test_chart_and_kustomize_make_the_same_objects(name: str) -> None:
    chart, overlay = _comparable(helm(values=name)), _comparable(kustomize(*SETTINGS[name]))
    assert chart.keys() == overlay.keys()
    for key in chart:
        assert chart[key] == overlay[key], key


def test_every_file_of_values_is_compared_or_known_to_be_the_charts_own() -> None:
    assert sorted([*SETTINGS, "s3"]) == CI


@pytest.mark.parametrize("name", CI)
def test_helm_finds_no_fault(name: str) -> None:
    run("helm", "lint", "--strict", CHART, "--values", CHART / "ci" / f"{name}-values.yaml")


def test_standard_mode_by_one_value_has_a_pod() -> None:
    predictor = one(helm("mode=Standard"), "InferenceService", "emoji")["spec"]["predictor"]
    assert predictor["minReplicas"] == 1


def _who_gets_in(*sets: str) -> list[str]:
    ingress = one(helm(*sets), "NetworkPolicy", "emoji")["spec"]["ingress"]
    names: list[str] = ingress[0]["from"][1]["namespaceSelector"]["matchExpressions"][0]["values"]
    return names


def test_knatives_own_pods_get_in_whichever_gateway_there_is() -> None:
    gateway = "networkPolicy.gatewayNamespaces"
    assert _who_gets_in() == ["knative-serving", "kourier-system"]
    assert _who_gets_in(f"{gateway}={{istio-system}}") == ["knative-serving", "istio-system"]
    assert _who_gets_in(f"{gateway}={{knative-serving,istio}}") == ["knative-serving", "istio"]
    assert _who_gets_in("mode=Standard", f"{gateway}={{istio-system}}") == ["istio-system"]


def test_each_release_has_a_host_of_its_own() -> None:
    for release in ("emoji", "blue"):
        text = run("helm", "template", release, CHART, "--set", "mode=Standard")
        route = one([item for item in yaml.safe_load_all(text) if item], "HTTPRoute", release)
        assert route["spec"]["hostnames"] == [f"{release}.example.com"]


def test_another_vendors_gpu_is_one_value() -> None:
    service = one(helm("gpu.enabled=true", "gpu.resource=amd.com/gpu"), "InferenceService", "emoji")
    assert service["spec"]["predictor"]["model"]["resources"]["limits"]["amd.com/gpu"] == "1"
    assert "nvidia" not in yaml.safe_dump(service)


def test_names_follow_the_release() -> None:
    text = run("helm", "template", "blue", CHART, "-n", "emoji")
    for item in filter(None, yaml.safe_load_all(text)):
        assert item["metadata"]["name"].startswith("blue"), item["metadata"]["name"]
    assert "emoji-predictor." not in text
    assert "blue-predictor.{{.Namespace}}" in text


def _notes(folder: Path, *sets: str) -> str:
    """NOTES.txt, which helm prints after an installation only: here as an object of a copied chart."""
    chart = folder / f"chart-{len(list(folder.iterdir()))}"
    shutil.copytree(CHART, chart)
    (chart / "templates" / "NOTES.txt").rename(chart / "files" / "notes")
    text = '{{ tpl (.Files.Get "files/notes") . | toJson }}'
    notes = f"kind: ConfigMap\nmetadata: {{name: notes}}\ndata: {{text: {text}}}\n"
    (chart / "templates" / "notes.yaml").write_text(notes)
    expressions = [part for expression in sets for part in ("--set", expression)]
    arguments = ["--show-only", "templates/notes.yaml", *expressions]
    text = run("helm", "template", "emoji", chart, "-n", "emoji", *arguments)
    return str(yaml.safe_load(text)["data"]["text"])


def test_notes_have_a_request_that_fits_the_mode(tmp_path: Path) -> None:
    knative = _notes(tmp_path)
    assert "Host: emoji-transformer.emoji.example.com" in knative
    assert "emoji-grpc-predictor.emoji.example.com" in knative
    assert "x-api-key" not in knative
    standard = _notes(tmp_path, "mode=Standard", "auth.enabled=true", "ingress.host=draw.example.org")
    assert "Host: draw.example.org" in standard
    assert "x-api-key: $API_KEY" in standard
    assert "Another route for draw.example.org" in standard
    assert "Another route" not in knative
    assert "--timeout" in knative, "a cold start may take longer than helm waits for a test"
    for notes in (knative, standard):
        body = re.search(r"-d '(.*)'", notes)
        assert body is not None
        assert json.loads(body[1])["inputs"][0]["name"] == "prompt"


def test_the_readme_is_made_of_the_values() -> None:
    shown = run(
        "helm-docs", "--chart-search-root", CHART, "--sort-values-order", "file", "--dry-run", "-l", "warning"
    )
    assert shown.strip() == (CHART / "README.md").read_text().strip(), "make chart-readme"


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://otel-collector.monitoring:4318", 4318),
        ("https://traces.example.com/otlp", 443),
        ("http://collector", 80),
    ],
)
def test_traces_may_go_to_the_collector_and_by_the_share_that_was_asked_for(endpoint: str, port: int) -> None:
    tracing = [
        f"tracing.endpoint={endpoint}",
        "tracing.namespace=seen",
        "tracing.ratio=0.25",
        "mode=Standard",
    ]
    objects = helm(*tracing)
    for container in one(objects, "ServingRuntime", "emoji-diffusion")["spec"]["containers"]:
        assert {variable["name"]: variable["value"] for variable in container["env"]} == {
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.25",
        }
    *_, egress = one(objects, "NetworkPolicy", "emoji-predictor")["spec"]["egress"]
    assert egress["to"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "seen"}
    assert egress["ports"] == [{"protocol": "TCP", "port": port}]
