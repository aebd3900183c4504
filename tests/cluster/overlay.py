"""The overlay under test in a kustomization as of a user's: namespace, images, patches, components."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.cluster import ROOT
from tests.cluster.modes import MODE, OVERLAYS, PATCHES, REGISTRY


def write_kustomization(
    folder: Path,
    namespace: str,
    components: Sequence[str] = (),
    patches: Sequence[tuple[str, list[dict[str, Any]]]] = (),
    overlay: str = "",
) -> None:
    """Write one that has one pod of each part: what a load shows then isn't another pod's start.

    Args:
        components: of manifests/components.
        patches: JSON patches by kind/name, in force after all others.
        overlay: this folder's, with no other patches than those given; the mode's, if empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = ("predictor", "transformer") if MODE == "Knative" else ("predictor",)
    bounds = [
        {"op": "add", "path": f"/spec/{part}/{bound}", "value": 1}
        for part in parts
        for bound in ("minReplicas", "maxReplicas")
    ]
    usual = [] if overlay else [*PATCHES[MODE], ("InferenceService/emoji", bounds)]
    kustomization = {
        "resources": [os.path.relpath(ROOT / (overlay or OVERLAYS[MODE]), folder)],
        "components": [os.path.relpath(ROOT / "manifests/components" / name, folder) for name in components],
        "namespace": namespace,
        "images": [
            {"name": f"dev.local/emoji-{name}", "newName": f"{REGISTRY}/emoji-{name}"}
            for name in ("predictor", "transformer", "weights")
        ],
        "patches": [
            {
                "target": dict(zip(("kind", "name"), target.split("/"), strict=True)),
                "patch": json.dumps(patch),
            }
            for target, patch in (*usual, *patches)
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization, indent=1), encoding="utf-8")
