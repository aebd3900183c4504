"""kube-linter finds nothing, in our objects and in the Deployments that KServe makes of them.

kube-linter is no part of `make tools`: install it to run this (https://docs.kubelinter.io).
"""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import yaml

from tests.manifests.pods import Pod, pods_of
from tests.manifests.render import MANIFESTS, Manifest, every_setting, program, render, run

pytestmark = pytest.mark.manifests


def _deployment(pod: Pod) -> Manifest:
    labels = pod.labels | {"app": pod.name}
    volumes = [*pod.spec["volumes"], *_claims(pod)]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": pod.name, "namespace": "emoji", "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
            },
            "selector": {"matchLabels": {"app": pod.name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": pod.spec | {"restartPolicy": "Always", "volumes": volumes},
            },
        },
    }


def _claims(pod: Pod) -> list[Manifest]:
    mounted = {mount["name"] for container in pod.spec["containers"] for mount in container["volumeMounts"]}
    known = {volume["name"] for volume in pod.spec["volumes"]}
    return [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in mounted - known]


@pytest.mark.parametrize("setting", every_setting())
def test_kube_linter_finds_nothing(setting: str, tmp_path: Path) -> None:
    program("kube-linter")
    objects = [deepcopy(item) for item in render(setting) if item["kind"] != "InferenceService"]
    for item in objects:
        item["metadata"].setdefault("namespace", "emoji")
    objects += [_deployment(pod) for pod in pods_of(render(setting)) if pod.is_server]
    file = tmp_path / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    found = run("kube-linter", "lint", "--format", "json", "--config", MANIFESTS / "kube-linter.yaml", file)
    assert json.loads(found)["Summary"]["ChecksStatus"] == "Passed"
    assert len(json.loads(found)["Checks"]) > 40
