"""The cluster under test, as kubectl, helm and the API of one kubeconfig see it.

Knows Kubernetes and the two ingresses that KServe uses; nothing of emoji.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kubernetes import client, config

ROOT = Path(__file__).parents[2]

RESTRICTED = {f"pod-security.kubernetes.io/{what}": "restricted" for what in ("enforce", "audit", "warn")} | {
    "pod-security.kubernetes.io/enforce-version": "latest"
}

KEEP = bool(os.environ.get("EMOJI_KEEP"))

_Seen = TypeVar("_Seen")


class Cluster:
    """One cluster; the kubeconfig is KUBECONFIG's."""

    def __init__(self) -> None:
        config.load_kube_config()
        self.core: Any = client.CoreV1Api()
        self.apps: Any = client.AppsV1Api()
        self.custom: Any = client.CustomObjectsApi()
        self.policy: Any = client.PolicyV1Api()
        self.networking: Any = client.NetworkingV1Api()

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 300) -> str:
        """kubectl's output; its failure fails the test, with what it said."""
        return run("kubectl", *arguments, stdin=stdin, timeout=timeout)

    def helm(self, *arguments: str, timeout: float = 900) -> str:
        """helm's output, as `kubectl`."""
        return run("helm", *arguments, timeout=timeout)

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """A new namespace where the restricted Pod Security Standard is enforced; removed afterwards.

        With EMOJI_KEEP it stays, and is used again as it is: for work on the tests.
        """
        if KEEP and self._exists(name):
            yield name
            return
        self._remove(name)
        self.core.create_namespace(
            client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels=RESTRICTED))
        )
        try:
            yield name
        finally:
            if not KEEP:
                self._remove(name)

    def _exists(self, name: str) -> bool:
        return name in {found.metadata.name for found in self.core.list_namespace().items}

    def _remove(self, name: str) -> None:
        # InferenceServices first: a namespace with Knative's pods in it takes minutes to go.
        if not self._exists(name):
            return
        self.kubectl("delete", "-n", name, "inferenceservices,inferencegraphs", "--all", "--wait=true")
        self.kubectl("delete", "-n", name, "pods", "--all", "--grace-period=1", "--wait=false")
        self.kubectl("delete", "namespace", name, "--wait=true", timeout=400)

    def objects(self, group: str, plural: str, namespace: str, labels: str = "") -> list[dict[str, Any]]:
        """Custom objects of a namespace; `group` with its version: serving.knative.dev/v1."""
        name, _, version = group.partition("/")
        found = self.custom.list_namespaced_custom_object(
            name, version, namespace, plural, label_selector=labels
        )
        return list(found["items"])

    def object(self, group: str, plural: str, namespace: str, name: str) -> dict[str, Any]:
        """One custom object. Raises ApiException."""
        group, _, version = group.partition("/")
        return dict(self.custom.get_namespaced_custom_object(group, version, namespace, plural, name))

    def ingress_address(self, mode: str) -> str:
        """host:port of the gateway: EMOJI_INGRESS, else the address of its Service."""
        if given := os.environ.get("EMOJI_INGRESS"):
            return given
        if mode == "Knative":
            service = self.core.read_namespaced_service("kourier", "kourier-system")
        else:
            label = "gateway.envoyproxy.io/owning-gateway-name=kserve-ingress-gateway"
            (service,) = self.core.list_service_for_all_namespaces(label_selector=label).items
        (port,) = (port for port in service.spec.ports if port.port == 80)
        for balancer in service.status.load_balancer.ingress or []:
            return f"{balancer.ip or balancer.hostname}:{port.port}"
        assert port.node_port, f"{service.metadata.name} has no address; set EMOJI_INGRESS=HOST:PORT"
        node = self.core.list_node().items[0]
        address = next(a.address for a in node.status.addresses if a.type == "InternalIP")
        return f"{address}:{port.node_port}"


def run(*command: str, stdin: str | None = None, timeout: float) -> str:
    """The output of a command that must succeed; in its failure, all that it said."""
    done = subprocess.run(
        command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False, timeout=timeout
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def until(what: str, look: Callable[[], _Seen | None], timeout: float, every: float = 0.5) -> _Seen:
    """What `look` sees once that is true; fails with the last thing seen after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}; last seen: {seen!r}"
        time.sleep(every)
    return seen
