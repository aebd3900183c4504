"""The service in Standard mode: Deployments whose pods have both servers, and our HTTPRoute with weights."""

import json
from typing import Any

from kubernetes.client import ApiException

from tests.cluster.cluster import until
from tests.cluster.pictures import Ingress
from tests.cluster.service import KSERVE, NAME, START_S, Service

GATEWAY = "gateway.networking.k8s.io/v1"


class StandardService(Service):
    """A canary is an InferenceService of its own, `emoji-canary`."""

    def ingress(self) -> Ingress:
        """One host for REST and gRPC."""
        (host,) = self._route()["spec"]["hostnames"]
        return Ingress(self.cluster.ingress_address("Standard"), host, host)

    def traffic(self) -> dict[str, int]:
        """By the weights of the route's rule for REST; every rule has the same."""
        rules = self._route()["spec"]["rules"]
        (shares,) = {tuple((b["name"], b.get("weight", 1)) for b in rule["backendRefs"]) for rule in rules}
        return {self._look(name.removesuffix("-predictor")): weight for name, weight in shares if weight}

    def _route(self) -> dict[str, Any]:
        return self.cluster.object(GATEWAY, "httproutes", self.namespace, NAME)

    def _look(self, name: str) -> str:
        service = self.cluster.object(KSERVE, "inferenceservices", self.namespace, name)
        (look,) = (
            v["value"] for v in service["spec"]["predictor"]["model"]["env"] if v["name"] == "DEFAULT_LOOK"
        )
        return str(look)

    @property
    def parts(self) -> tuple[str, ...]:
        """The transformer is in the predictor's pods."""
        return ("predictor",)

    def wait(self) -> None:
        """Until the Deployment has rolled out and the gateway has taken the route."""
        until(f"{self.namespace}/{NAME} has rolled out", self._rolled_out, START_S)

    def _rolled_out(self) -> bool:
        try:
            found = self.cluster.apps.read_namespaced_deployment(f"{NAME}-predictor", self.namespace)
            parents = self._route().get("status", {}).get("parents", [])
        except ApiException as error:
            if error.status == 404:
                return False
            raise
        status, replicas = found.status, found.spec.replicas
        accepted = any(
            c["type"] == "Accepted" and c["status"] == "True" for p in parents for c in p["conditions"]
        )
        return bool(
            accepted
            and status.observed_generation == found.metadata.generation
            and status.updated_replicas == status.ready_replicas == status.replicas == replicas
        )

    def ask_for_canary(self, model: dict[str, Any], percent: int) -> None:
        """By a second InferenceService; its share is not in it: the first step of `rollout auto` sets one."""
        stable = self.spec()
        metadata, spec = stable["metadata"], stable["spec"]
        canary = {
            "apiVersion": stable["apiVersion"],
            "kind": stable["kind"],
            "metadata": {
                "name": f"{NAME}-canary",
                "labels": metadata["labels"],
                "annotations": {k: v for k, v in metadata["annotations"].items() if "kubectl" not in k},
            },
            "spec": spec | {"predictor": spec["predictor"] | {"model": model}},
        }
        self.cluster.kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(canary))

    def repair(self, model: dict[str, Any]) -> None:
        """Nothing: the canary went with all that was wrong in it."""

    def bound(self, least: int, most: int) -> None:
        """Of the HorizontalPodAutoscaler, which goes by the CPU."""
        self.patch({"spec": {"predictor": {"minReplicas": least, "maxReplicas": most}}})

    def hold(self, pods: int) -> None:
        """By equal bounds of the autoscaler."""
        self.bound(pods, pods)
        until(f"{pods} pods are ready", lambda: len(self.ready_pods("predictor")) == pods, START_S)
        self.wait()
