#!/usr/bin/env python3
"""Renders KServe's install manifest for a cluster without cert-manager, kube-rbac-proxy or a registry.

The certificates come from the cluster's own authority. Left out: LLM serving, the nodes' cache of models.
Writes files in the order of applying.
"""

import argparse
import base64
import json
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
SMALL = {"cpuRequest": "10m", "memoryRequest": "32Mi"}


def left_out(manifest: Manifest) -> bool:
    """Whether this cluster does without it."""
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    return (
        kind in ("Certificate", "Issuer")
        or name == "kserve-webhook-server-secret"
        or "localmodel" in name
        or "llm" in name
        or (kind == "CustomResourceDefinition" and not name.endswith("serving.kserve.io"))
    )


def first_manifests(pki: Path) -> list[Manifest]:
    """KServe's namespace and the secret that cert-manager would make."""
    files = {"tls.crt": "kserve-webhook.crt", "tls.key": "kserve-webhook.key", "ca.crt": "ca.crt"}
    data = {key: base64.b64encode((pki / file).read_bytes()).decode() for key, file in files.items()}
    labels = {"control-plane": "kserve-controller-manager"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kserve", "labels": labels}},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "kserve-webhook-server-cert", "namespace": "kserve"},
            "data": data,
        },
    ]


def configure(data: dict[str, str], images: str, version: str) -> None:
    """Settings of inferenceservice-config: Knative by default, this cluster's gateway, small pods."""

    def update(key: str, **values: Any) -> None:
        data[key] = json.dumps({**json.loads(data.get(key, "{}")), **values}, indent=1)

    data.pop("_example", None)
    update("deploy", defaultDeploymentMode="Knative")
    update(
        "ingress",
        enableGatewayApi=True,
        kserveIngressGateway="kserve/kserve-ingress-gateway",
        disableIstioVirtualHost=True,
        disableIngressCreation=False,
        ingressClassName="none",
        ingressDomain="example.com",
    )
    update("router", image=f"{images}/kserve-router:{version}", **SMALL)
    update("storageInitializer", image=f"{images}/storage-initializer:{version}", **SMALL)
    update("inferenceService", resource={"cpuLimit": "1", "memoryLimit": "2Gi", **SMALL})
    update("autoscaler", scaleUpStabilizationWindowSeconds="0", scaleDownStabilizationWindowSeconds="15")


def keep_manager(deployment: Manifest, image: str) -> None:
    """Keeps the manager alone of its deployment's containers."""
    pod = deployment["spec"]["template"]["spec"]
    manager = next(container for container in pod["containers"] if container["name"] == "manager")
    pod["containers"] = [manager]
    manager.update(
        image=image,
        imagePullPolicy="IfNotPresent",
        args=["--leader-elect", "--metrics-addr=:8080"],
        # Its CPU limit of 100m makes the start slow.
        resources={"requests": {"cpu": "50m", "memory": "100Mi"}, "limits": {"memory": "1Gi"}},
    )
    # Soon ready, and not restarted when the node is busy
    manager["readinessProbe"].update(initialDelaySeconds=2, periodSeconds=2, timeoutSeconds=10)
    manager["livenessProbe"].update(initialDelaySeconds=30, timeoutSeconds=10, failureThreshold=12)


def main() -> None:
    """Reads the command line and writes the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", required=True, type=Path, help="the folder of KServe's module")
    parser.add_argument("--version", required=True, help="KServe's version and its images' tag")
    parser.add_argument("--pki", required=True, type=Path, help="the folder of the cluster's certificates")
    parser.add_argument("--images", required=True, help="the images' registry")
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()

    authority = base64.b64encode((arguments.pki / "ca.crt").read_bytes()).decode()
    stages: dict[str, list[Manifest]] = {
        "1-crds": [],
        "2-core": first_manifests(arguments.pki),
        "3-webhooks": [],
    }
    text = (arguments.module / "install" / arguments.version / "kserve.yaml").read_text()
    for manifest in filter(None, yaml.load_all(text, Loader=yaml.CSafeLoader)):
        if left_out(manifest):
            continue
        kind, name, stage = manifest["kind"], manifest["metadata"]["name"], "2-core"
        manifest["metadata"].get("annotations", {}).pop("cert-manager.io/inject-ca-from", None)
        if kind == "CustomResourceDefinition":
            stage = "1-crds"
        elif kind.endswith("WebhookConfiguration"):
            stage = "3-webhooks"
            for webhook in manifest["webhooks"]:
                webhook["clientConfig"]["caBundle"] = authority
        elif kind == "ClusterStorageContainer":
            stage = "3-webhooks"  # one of them checks it
            image = f"{arguments.images}/storage-initializer:{arguments.version}"
            manifest["spec"]["container"]["image"] = image
        elif kind == "Deployment":
            keep_manager(manifest, f"{arguments.images}/kserve-manager:{arguments.version}")
        elif kind == "ConfigMap" and name == "inferenceservice-config":
            configure(manifest["data"], arguments.images, arguments.version)
        stages[stage].append(manifest)

    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, manifests in stages.items():
        with (arguments.out / f"{name}.yaml").open("w") as file:
            yaml.dump_all(manifests, file, Dumper=yaml.CSafeDumper, sort_keys=False)


if __name__ == "__main__":
    main()
