"""What kustomize and helm make of our files, as plain objects.

The programs are those of `make tools`, else those of the machine; a test that lacks one is skipped.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
CHART = ROOT / "helm" / "emoji-diffusion"
TOOLS = ROOT / ".tools"

Manifest = dict[str, Any]

STANDARD = ("overlays/standard",)
KNATIVE = ("overlays/knative",)
CANARY = "components/canary/standard"

SETTINGS: dict[str, tuple[str, ...]] = {
    "local": ("overlays/local",),
    "knative": KNATIVE,
    "knative-canary": (*KNATIVE, "components/canary/knative"),
    "knative-tracing": (*KNATIVE, "components/tracing", "components/tracing/knative"),
    "standard": STANDARD,
    "standard-canary": (*STANDARD, CANARY, "components/auth"),
    "standard-tracing": (*STANDARD, "components/tracing", "components/tracing/standard"),
    "gpu": ("overlays/gpu",),
}
"""Names of the chart's `ci/<name>-values.yaml`, and the overlay with components that has the same objects."""

CHART_ONLY = ("s3",)


def program(name: str) -> str:
    """The path of a program; skips the test where there is none."""
    path = shutil.which(name, path=TOOLS) or shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (make tools)")
    return path


def run(name: str, *arguments: str | Path, fails: bool = False, text: str | None = None) -> str:
    """What a program prints; with `fails`, what it says on stderr while it fails as it should."""
    done = subprocess.run(
        [program(name), *map(str, arguments)], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode != 0) is fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


@cache
def kustomize(*parts: str, extra: str = "", below: str = "") -> Sequence[Manifest]:
    """The objects of an overlay with components, all by their paths below manifests/.

    Args:
        parts: an overlay, then components.
        extra: more YAML for the kustomization that puts them together.
        below: YAML for a kustomization of its own between the overlay and the components.
    """
    if len(parts) == 1 and not extra and not below:
        return _objects(run("kustomize", "build", MANIFESTS / parts[0]))
    # kustomize wants relative paths, so a kustomization that puts parts together must lie in this tree
    TOOLS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
        overlay, *components = (f"../../manifests/{part}" for part in parts)
        if below:
            Path(folder, "below").mkdir()
            Path(folder, "below", "kustomization.yaml").write_text(f"resources: [../{overlay}]\n" + below)
            overlay = "below"
        head = {"resources": [overlay], "components": components}
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(head) + extra)
        return _objects(run("kustomize", "build", folder))


@cache
def helm(*sets: str, values: str | None = None) -> Sequence[Manifest]:
    """The chart's objects for a file of its folder ci/ and for `--set` expressions."""
    return _objects(template(*sets, values=values))


def template(*sets: str, values: str | None = None, fails: bool = False) -> str:
    """What `helm template emoji -n emoji` prints, or says when it fails."""
    files = ["--values", CHART / "ci" / f"{values}-values.yaml"] if values else []
    expressions = [part for expression in sets for part in ("--set", expression)]
    return run("helm", "template", "emoji", CHART, "-n", "emoji", *files, *expressions, fails=fails)


def every_setting() -> list[str]:
    """Names of all renderings: those of kustomize, and those of the chart."""
    return [
        *(f"kustomize:{name}" for name in ("base", *SETTINGS)),
        *(f"helm:{name}" for name in (*SETTINGS, *CHART_ONLY)),
    ]


def render(setting: str) -> Sequence[Manifest]:
    """The objects of one of `every_setting`."""
    by, _, name = setting.partition(":")
    if by == "helm":
        return helm(values=name)
    return kustomize("base") if name == "base" else kustomize(*SETTINGS[name])


def one(objects: Sequence[Manifest], kind: str, name: str) -> Manifest:
    """The object of that kind and name, which must be there once."""
    found = [item for item in objects if (item["kind"], item["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{kind} {name}: {len(found)} in {sorted(map(title, objects))}"
    return found[0]


def title(item: Manifest) -> str:
    """Kind and name."""
    return f"{item['kind']} {item['metadata']['name']}"


def _objects(text: str) -> Sequence[Manifest]:
    return tuple(item for item in yaml.safe_load_all(text) if item)
