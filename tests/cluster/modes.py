"""The deployment mode under test, EMOJI_MODE: Knative (the default) or Standard; what is deployed in it."""

import os
from typing import Any

import pytest

from tests.cluster.cluster import ROOT
from tests.cluster.knative import KnativeService
from tests.cluster.service import Service
from tests.cluster.standard import StandardService

MODE = os.environ.get("EMOJI_MODE", "Knative")
SERVICES: dict[str, type[Service]] = {"Knative": KnativeService, "Standard": StandardService}
REGISTRY = os.environ.get("EMOJI_REGISTRY", "dev.local")
"""Where the cluster finds the images."""

OUT = ROOT / "out" / ("cluster" if MODE == "Knative" else "cluster-standard")
"""The evidence."""

OVERLAYS = {"Knative": "manifests/overlays/local", "Standard": "manifests/overlays/standard"}

_VALUES = "helm/emoji-diffusion/ci"
VALUES = {
    "Knative": ("-f", f"{_VALUES}/local-values.yaml"),
    # As small as `local`; one pod, and a host of its own: the route of `kubectl apply -k` has the usual one.
    "Standard": (
        *("-f", f"{_VALUES}/local-values.yaml", "-f", f"{_VALUES}/standard-values.yaml"),
        *("--set", "predictor.minReplicas=1,predictor.maxReplicas=1,ingress.host=helm.example.com"),
    ),
}
"""What `helm install` is given."""

SMALL = {"requests": {"cpu": "100m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "3Gi"}}
PATCHES: dict[str, list[tuple[str, list[dict[str, Any]]]]] = {
    "Knative": [],
    # The overlay is meant for larger nodes. With these requests a rollout's third pod has room on two cores.
    "Standard": [
        (
            "InferenceService/emoji",
            [
                {"op": "replace", "path": "/spec/predictor/model/resources", "value": SMALL},
                {"op": "add", "path": "/spec/predictor/model/args", "value": ["--threads=1"]},
            ],
        ),
        (
            "ServingRuntime/emoji-diffusion",
            [{"op": "replace", "path": "/spec/containers/1/resources/requests/cpu", "value": "50m"}],
        ),
    ],
}
"""JSON patches, by kind/name, that make an overlay fit the cluster under test."""

LEAST = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}}
KNATIVE_SMALL: list[tuple[str, list[dict[str, Any]]]] = [
    (
        "InferenceService/emoji",
        [
            {"op": "replace", "path": "/spec/predictor/model/resources", "value": SMALL},
            {"op": "add", "path": "/spec/predictor/model/args", "value": ["--threads=1"]},
            {"op": "replace", "path": "/spec/transformer/containers/0/resources", "value": LEAST},
        ],
    ),
    (
        "InferenceService/emoji-grpc",
        [{"op": "replace", "path": "/spec/predictor/model/resources", "value": LEAST}],
    ),
]
"""As PATCHES, for the overlay `knative` itself: what it scales by stays its own."""

only_knative = pytest.mark.skipif(
    MODE != "Knative", reason=f"Knative's alone; these tests are in {MODE} mode"
)
only_standard = pytest.mark.skipif(
    MODE != "Standard", reason=f"Standard mode's alone; these tests are in {MODE} mode"
)
