"""All objects fulfil the schemas of Kubernetes and of the custom resources (tools/schemas/go.mod)."""

from collections.abc import Sequence

import pytest
import yaml

from tests.manifests.render import TOOLS, Manifest, every_setting, kustomize, render, run

pytestmark = pytest.mark.manifests

SCHEMAS = TOOLS / "schemas"


def _check(objects: Sequence[Manifest], fails: bool = False) -> str:
    if not SCHEMAS.is_dir():
        pytest.skip("there are no schemas (make tools)")
    location = f"{SCHEMAS}/{{{{.Group}}}}_{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json"
    text = yaml.safe_dump_all(objects)
    return run("kubeconform", "-strict", "-summary", "-schema-location", location, text=text, fails=fails)


@pytest.mark.parametrize("setting", every_setting())
def test_every_object_fulfils_its_schema(setting: str) -> None:
    objects = render(setting)
    assert f"Valid: {len(objects)}, Invalid: 0, Errors: 0, Skipped: 0" in _check(objects)


def test_graphs_fulfil_their_schema() -> None:
    assert "Valid: 4," in _check(kustomize("graphs"))


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"predictor": {"modle": {}}}},
        {"spec": {"predictor": {"model": {"modelFormat": {"name": 3}}}}},
        {"spec": {"predictor": {"minReplicas": "1"}}},
    ],
)
def test_the_schemas_find_what_is_wrong(change: Manifest) -> None:
    head = {"apiVersion": "serving.kserve.io/v1beta1", "kind": "InferenceService", "metadata": {"name": "x"}}
    _check([head | change], fails=True)
