"""The deployment mode under test: EMOJI_MODE, Knative (the default) or Standard."""

import os

import pytest

from tests.cluster.knative import KnativeService
from tests.cluster.service import Service
from tests.cluster.standard import StandardService

MODE = os.environ.get("EMOJI_MODE", "Knative")
SERVICES: dict[str, type[Service]] = {"Knative": KnativeService, "Standard": StandardService}
OVERLAYS = {"Knative": "manifests/overlays/local", "Standard": "manifests/overlays/standard"}
VALUES = {
    "Knative": "helm/emoji-diffusion/ci/local-values.yaml",
    "Standard": "helm/emoji-diffusion/ci/standard-values.yaml",
}

only_knative = pytest.mark.skipif(
    MODE != "Knative", reason=f"Knative's alone; these tests are in {MODE} mode"
)
