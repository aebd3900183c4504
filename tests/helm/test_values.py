"""Values: the schema is strict, and values that would do nothing together are refused."""

import json
from typing import Any

import pytest
import yaml

from tests.manifests.render import CHART, helm, one, run, template

pytestmark = pytest.mark.manifests


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
