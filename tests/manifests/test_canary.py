"""The canary components: what they change, and that a canary is a copy of the stable service."""

from copy import deepcopy

import pytest

from tests.manifests.render import (
    CANARY,
    KNATIVE,
    SETTINGS,
    STANDARD,
    Manifest,
    kustomize,
    one,
)

pytestmark = pytest.mark.manifests


def _look(service: Manifest) -> str:
    env = {item["name"]: item["value"] for item in service["spec"]["predictor"]["model"]["env"]}
    return str(env["DEFAULT_LOOK"])


def _weights(route: Manifest) -> list[dict[str, int]]:
    return [{ref["name"]: ref["weight"] for ref in rule["backendRefs"]} for rule in route["spec"]["rules"]]


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
