"""The chart: the same objects as kustomize, strict values, a canary's states, README and notes."""

import json
import re
import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.manifests.render import CHART, ROOT, SETTINGS, Manifest, helm, kustomize, one, run, template

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


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("mode=Serverless", "mode"),
        ("predictor.replicas=2", "replicas"),
        ("nonsense=1", "nonsense"),
        ("look=notoemoji", "look"),
        ("look=null", "look"),
        ("weights.accessMode=ReadWriteOncePod", "accessMode"),
        ("canary.percent=101", "percent"),
        ("canary.percent=some", "percent"),
        ("translation.backend=seq2seq", "storageUri"),
        ("timeoutSeconds=60", "timeoutSeconds"),
        ("weights.base.uri=/models", "uri"),
        ("weights.loras.uri=pvc://models/loras", "uri"),
        ("translation.storageUri=pvc://models/translator", "storageUri"),
        ("predictor.env[0].name=DEFAULT_LOOK", "env"),
        ("predictor.env[0].nmae=X", "env"),
        ("predictor.tolerations[0].kye=nvidia.com/gpu", "tolerations"),
        ("predictor.resources.limits=null", "limits"),
        ("tracing.endpoint=otel-collector:4318", "endpoint"),
        ("tracing.ratio=2", "ratio"),
        ("weights.copyEmbedded=false,weights.base.uri=oci://registry.example.com/weights:1", "pattern"),
        ("predictor.startupSeconds=5", "startupSeconds"),
        ("auth.enabled=true", "auth.enabled needs mode Standard"),
        ("autoscaling.class=keda", "autoscaling.class needs mode Standard"),
        ("mode=Standard,autoscaling.class=keda", "needs monitoring.enabled"),
        ("ingress.host=draw.example.org", "ingress.host needs mode Standard"),
        ("canary.look=notoemoji@1", "canary.look is look"),
        ("canary.look=notoemoji@1,canary.percent=10", "canary.look is look"),
        ("predictor.minReplicas=9", "predictor.minReplicas is more"),
        ("transformer.minReplicas=9", "transformer.minReplicas is more"),
        ("grpc.minReplicas=9", "grpc.minReplicas is more"),
        ("weights.base.uri=s3://models/base", "weights.copyEmbedded"),
    ],
)
def test_wrong_values_are_refused(expression: str, complaint: str) -> None:
    assert complaint in template(expression, fails=True)


@pytest.mark.parametrize("release", ["1emoji", "my.emoji"])
def test_releases_that_no_service_may_be_named_after_are_refused(release: str) -> None:
    assert "begins the names of Services" in run("helm", "template", release, CHART, fails=True)


def test_whole_numbers_are_quantities_too() -> None:
    spec = one(helm("predictor.resources.limits.cpu=2"), "InferenceService", "emoji")["spec"]
    assert spec["predictor"]["model"]["resources"]["limits"]["cpu"] == 2


def test_every_object_of_the_schema_is_closed() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def closed(part: dict[str, Any], value: Any, path: str) -> None:
        part = schema["definitions"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
        if isinstance(value, dict) and "properties" in part:
            assert part["additionalProperties"] is False, path
            assert value.keys() <= part["properties"].keys(), path
            for key, child in value.items():
                closed(part["properties"][key], child, f"{path}.{key}")

    closed(schema, values, "values")
    assert values.keys() == schema["properties"].keys() - {"global"}


def _traffic(*sets: str) -> tuple[str, int | None]:
    """The look of the newest revision in Knative mode, and its share."""
    spec = one(helm(*sets), "InferenceService", "emoji")["spec"]["predictor"]
    return spec["model"]["env"][0]["value"], spec.get("canaryTrafficPercent")


def test_a_canary_in_knative_mode_step_by_step() -> None:
    assert _traffic() == ("notoemoji@1", None)
    assert _traffic("canary.look=openmoji@1") == ("openmoji@1", 0)
    assert _traffic("canary.look=openmoji@1", "canary.percent=10") == ("openmoji@1", 10)
    assert _traffic("look=openmoji@1", "canary.percent=") == ("openmoji@1", None), (
        "promoted: the same revision has all"
    )
    assert _traffic("canary.look=openmoji@1", "canary.percent=0") == ("openmoji@1", 0), "rolled back at once"
    assert _traffic("canary.percent=0") == ("notoemoji@1", 0), "the old look starts anew without traffic"


def _weights(*sets: str) -> list[dict[str, int]]:
    route = one(helm("mode=Standard", *sets), "HTTPRoute", "emoji")
    return [{ref["name"]: ref["weight"] for ref in rule["backendRefs"]} for rule in route["spec"]["rules"]]


def test_a_canary_in_standard_mode_step_by_step() -> None:
    assert _weights() == [{"emoji-predictor": 100}] * 2
    assert _weights("canary.look=openmoji@1") == _weights("canary.look=openmoji@1", "canary.percent=0")
    for percent in (0, 10, 100):
        weights = {"emoji-predictor": 100 - percent, "emoji-canary-predictor": percent}
        assert _weights("canary.look=openmoji@1", f"canary.percent={percent}") == [weights] * 2


DOCUMENTED = re.compile(r"^\| `([a-z.]+): (\S+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def _by_values(mode: str, heading: str, **before: str) -> list[Any]:
    """What the edits of a table of docs/rollout.md lead to, one by one: look and share in Knative mode;
    in Standard mode the looks of the stable service and of the canary, and the canary's share."""
    page = (ROOT / "docs" / "rollout.md").read_text().partition("\n## By GitOps\n")[2]
    table = page.partition(f"\n{heading}")[2].partition("\n| ")[2].partition("\n\n")[0]
    values, seen = {"mode": mode, "look": "notoemoji@1"} | before, []
    for key, value, *effects in DOCUMENTED.findall(table):
        if effects[mode == "Standard"] == "(leave out)":
            continue
        values[key] = value.strip('"')
        sets = [f"{name}={it}" for name, it in values.items()]
        if mode == "Knative":
            seen.append(_traffic(*sets))
            continue
        services = {
            item["metadata"]["name"]: item["spec"]["predictor"]["model"]["env"][0]["value"]
            for item in helm(*sets)
            if item["kind"] == "InferenceService"
        }
        (shares,) = {share.get("emoji-canary-predictor") for share in _weights(*sets)}
        seen.append((services["emoji"], services.get("emoji-canary"), shares))
    return seen


def test_a_rollout_one_value_at_a_time_as_documented() -> None:
    old, new = "notoemoji@1", "openmoji@1"
    assert _by_values("Knative", "Promote") == [(new, percent) for percent in (0, 10, 100, 100, 100, None)]
    assert _by_values("Standard", "Promote") == [
        *((old, new, percent) for percent in (0, 10, 100)),
        *((new, new, percent) for percent in (100, 0)),
        *[(new, None, None)] * 2,
    ]


def test_a_rollback_one_value_at_a_time_as_documented() -> None:
    old, new = "notoemoji@1", "openmoji@1"
    canary = {"canary.look": new, "canary.percent": "10"}
    assert _by_values("Knative", "Roll back", **canary) == [(new, 0), (old, 0), (old, None)]
    assert _by_values("Standard", "Roll back", **canary) == [(old, new, 0), *[(old, None, None)] * 2]


def _startup(*sets: str) -> tuple[int, str | None]:
    """Seconds that a predictor has to load its weights in, and Knative's deadline for all of its start."""
    objects = helm(*sets)
    probe = one(objects, "ServingRuntime", "emoji-diffusion")["spec"]["containers"][0]["startupProbe"]
    annotations = one(objects, "InferenceService", "emoji")["spec"]["predictor"].get("annotations", {})
    deadline = annotations.get("serving.knative.dev/progress-deadline")
    return probe["periodSeconds"] * probe["failureThreshold"], deadline


def test_weights_that_load_slowly_are_given_time() -> None:
    slow = "predictor.startupSeconds=1800"
    assert _startup() == (300, None), "Knative's own deadline is ten minutes"
    assert _startup(slow) == (1800, "2100s")
    assert _startup(slow, "mode=Standard") == (1800, None)


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


def test_a_canary_of_standard_mode_has_as_many_pods_and_counts_its_own_queue() -> None:
    objects = deepcopy(helm("canary.look=openmoji@1", "predictor.minReplicas=3", values="gpu"))
    stable, canary = (one(objects, "InferenceService", name) for name in ("emoji", "emoji-canary"))
    for service, name in ((stable, "emoji"), (canary, "emoji-canary")):
        predictor = service["spec"]["predictor"]
        query = predictor.pop("autoScaling")["metrics"][0]["external"]["metric"]["query"]
        assert f'inferenceservice="{name}"' in query
        del predictor["model"]["env"]
    assert canary["spec"] == stable["spec"]
    assert canary["metadata"]["annotations"] == stable["metadata"]["annotations"]


def test_a_translator_is_mounted_where_its_flag_says() -> None:
    sets = ("translation.backend=seq2seq", "translation.storageUri=pvc://opus")
    for mode in ("Knative", "Standard"):
        objects = helm(f"mode={mode}", *sets)
        spec = one(objects, "InferenceService", "emoji")["spec"]
        if mode == "Knative":
            holder, arguments = spec["transformer"], spec["transformer"]["containers"][0]["args"]
        else:
            holder = spec["predictor"]
            arguments = one(objects, "ServingRuntime", "emoji-diffusion")["spec"]["containers"][1]["args"]
        assert {"uri": "pvc://opus", "mountPath": "/mnt/models/translator"} in holder["storageUris"]
        assert {"--translator=seq2seq", "--translator_dir=/mnt/models/translator"} <= set(arguments)


def test_what_is_downloaded_comes_before_claims() -> None:
    # KServe 0.20 takes the settings of its downloading container, such as a securityContext, by the first URI
    sets = ("weights.copyEmbedded=false", "weights.base.uri=pvc://base", "weights.loras.uri=s3://looks")
    spec = one(helm(*sets), "InferenceService", "emoji")["spec"]
    assert [uri["uri"] for uri in spec["predictor"]["storageUris"]] == ["s3://looks", "pvc://base"]


def test_claims_below_the_one_volume_of_several_downloads_are_refused() -> None:
    sets = (
        "mode=Standard",
        "weights.copyEmbedded=false",
        "weights.base.uri=s3://base",
        "weights.loras.uri=pvc://looks",
        "translation.backend=seq2seq",
    )
    assert "one volume" in template(*sets, "translation.storageUri=s3://opus", fails=True)
    helm(*sets, "translation.storageUri=pvc://opus")
    helm(*sets[1:], "translation.storageUri=s3://opus")  # Knative mode: in the transformer's pods


def test_a_translator_is_downloaded_with_the_transformers_account() -> None:
    sets = (
        "translation.backend=seq2seq",
        "translation.storageUri=s3://opus",
        "transformer.serviceAccountName=opus",
    )
    objects = helm(*sets)
    assert one(objects, "InferenceService", "emoji")["spec"]["transformer"]["serviceAccountName"] == "opus"
    assert one(objects, "InferenceService", "emoji-grpc")["spec"]["predictor"]["serviceAccountName"] == "opus"


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
