#!/usr/bin/env python3
"""Renders Knative Serving and Kourier from the manifests in their Go modules.

Images become this cluster's own, requests small, settings those of settings.yaml.
Writes files in the order of applying.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]


def sources(serving: Path, networking: Path, caching: Path, kourier: Path) -> list[Path]:
    """The manifests' files."""
    # Links in Serving's repository to these two, which its module lacks
    links = ("ingress", "certificate", "serverlessservice", "domain-claim", "config-network")
    return [
        *sorted((serving / "config/core").rglob("*.yaml")),
        *(networking / f"config/{name}.yaml" for name in links),
        caching / "config/image.yaml",
        *sorted((kourier / "config").glob("*.yaml")),
    ]


def with_images(value: Any, prefix: str, tag: str, envoy: str) -> Any:
    """The same value with the images that this cluster has; in a config an image may stand anywhere."""
    match value:
        case dict():
            return {key: with_images(item, prefix, tag, envoy) for key, item in value.items()}
        case list():
            return [with_images(item, prefix, tag, envoy) for item in value]
        case str() if value.startswith("ko://"):
            return f"{prefix}/knative-{value.rsplit('/', 1)[1]}:{tag}"
        case str() if value.startswith("docker.io/envoyproxy/envoy:"):
            return f"{prefix}/envoy:{envoy}"
    return value


def fit(deployment: Manifest) -> None:
    """Makes a deployment fit a small and busy node, start soon and stop soon."""
    pod = deployment["spec"]["template"]["spec"]
    pod["terminationGracePeriodSeconds"] = 10
    for container in pod["containers"]:
        # The request is also the weight against the models' pods when they take all there is.
        container["resources"]["requests"] = {"cpu": "50m", "memory": "40Mi"}
        container["resources"].get("limits", {}).pop("cpu", None)
        container["imagePullPolicy"] = "IfNotPresent"
        if "readinessProbe" in container:
            container["readinessProbe"].update(initialDelaySeconds=1, periodSeconds=2, timeoutSeconds=10)
        if "livenessProbe" in container:
            container["livenessProbe"].update(timeoutSeconds=10, failureThreshold=12)
    if deployment["metadata"]["name"] == "3scale-kourier-gateway":
        # Its preStop hook needs a shell, which the image lacks.
        pod["containers"][0].pop("lifecycle", None)


def configure(config: Manifest, settings: dict[str, str]) -> None:
    """Puts this cluster's settings into a ConfigMap and drops its example, which has a checksum."""
    (config["metadata"].get("annotations") or {}).pop("knative.dev/example-checksum", None)
    data = config.setdefault("data", {})
    data.pop("_example", None)
    data.update(settings)


def stage(manifest: Manifest) -> str:
    """The file a manifest belongs to."""
    kind = manifest["kind"]
    if kind == "CustomResourceDefinition":
        return "1-crds"
    if kind == "Namespace":
        return "2-namespaces"
    if kind in ("Deployment", "Service") or kind.endswith("WebhookConfiguration"):
        return "4-workloads"
    if manifest["apiVersion"].startswith(("caching.", "networking.internal")):
        return "5-after-the-webhook"
    return "3-config"


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    for module in ("serving", "networking", "caching", "kourier"):
        parser.add_argument(f"--{module}", required=True, type=Path, help="the module's folder")
    parser.add_argument("--images", required=True, help="the images' registry")
    parser.add_argument("--tag", required=True, help="tag of Knative's images")
    parser.add_argument("--envoy", required=True, help="tag of Envoy's image")
    parser.add_argument("--port", required=True, type=int, help="the gateway's NodePort")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()

    settings = yaml.safe_load(Path(__file__).with_name("settings.yaml").read_text())
    stages: dict[str, list[Manifest]] = {}
    for path in sources(arguments.serving, arguments.networking, arguments.caching, arguments.kourier):
        for manifest in filter(None, yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)):
            manifest = with_images(manifest, arguments.images, arguments.tag, arguments.envoy)
            kind, name = manifest["kind"], manifest["metadata"]["name"]
            manifest["metadata"].pop("creationTimestamp", None)
            if kind in ("HorizontalPodAutoscaler", "PodDisruptionBudget"):  # one node, one of each
                continue
            if kind == "Deployment":
                fit(manifest)
            if kind == "ConfigMap":
                configure(manifest, settings.get(name, {}))
            if kind == "Service" and name == "kourier":
                manifest["spec"]["type"] = "NodePort"
                manifest["spec"]["ports"][0]["nodePort"] = arguments.port
            stages.setdefault(stage(manifest), []).append(manifest)

    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, manifests in stages.items():
        with (arguments.out / f"{name}.yaml").open("w") as file:
            yaml.dump_all(manifests, file, Dumper=yaml.CSafeDumper, sort_keys=False)


if __name__ == "__main__":
    main()
