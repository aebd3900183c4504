"""Weights of the manifests: what the Job fills, and the patches of docs/weights.md."""

import pytest

from tests.cluster.docs import blocks
from tests.manifests.render import (
    CANARY,
    KNATIVE,
    STANDARD,
    every_setting,
    helm,
    kustomize,
    one,
    render,
)

pytestmark = pytest.mark.manifests


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
