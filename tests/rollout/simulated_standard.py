"""What KServe, Deployments and a gateway do in Standard mode, a step at a time."""

import copy

from rollout.cluster import Cluster
from tests.rollout.object_store import ObjectStore


class SimulatedStandard:
    controllers = ("kserve", "deployment", "pods", "route", "garbage")
    splits = (("InferenceService", "emoji"), ("HTTPRoute", "emoji"))
    """The objects whose spec splits the traffic."""

    def __init__(self, look, bad=()):
        self.bad = set(bad)
        self.store = ObjectStore()
        self.cluster = Cluster(self.store, "emoji")
        self.store.create(
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {
                    "name": "emoji",
                    "labels": {"app.kubernetes.io/instance": "emoji"},
                    "annotations": {
                        "serving.kserve.io/deploymentMode": "Standard",
                        "kubectl.kubernetes.io/last-applied-configuration": "{}",
                    },
                },
                "spec": {"predictor": {"model": {"env": [{"name": "DEFAULT_LOOK", "value": look}]}}},
            }
        )
        backends = [{"name": "emoji-predictor", "port": port, "weight": 100} for port in (8091, 80)]
        rules = [{"backendRefs": [backend]} for backend in backends]
        self.store.create(
            {
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": "HTTPRoute",
                "metadata": {"name": "emoji"},
                "spec": {"hostnames": ["emoji.example.com"], "rules": rules},
            }
        )
        self.routed = []
        self.settle()

    def run(self, controller):
        with self.store.lock:
            getattr(self, f"_{controller}")()

    def settle(self):
        for _ in range(5):
            for controller in self.controllers:
                self.run(controller)

    def shares(self):
        """Percent by look, as the gateway has it; old and new pods of a Deployment share by number, and
        "nobody" is where there is none."""
        total: dict[str, float] = {}
        for backend in self.routed:
            deployment = self.store.objects.get(("Deployment", backend["name"]))
            ready = [pod["look"] for pod in deployment["pods"] if pod["ready"]] if deployment else []
            for look in ready or ["nobody"]:
                total[look] = total.get(look, 0) + backend.get("weight", 1) / max(len(ready), 1)
        weights = sum(backend.get("weight", 1) for backend in self.routed)
        return {look: round(100 * weight / weights) for look, weight in total.items() if weight}

    def _kserve(self):
        for service in self.store.list("InferenceService"):
            name = f"{service['metadata']['name']}-predictor"
            container = {"name": "kserve-container", "env": service["spec"]["predictor"]["model"]["env"]}
            spec = {"template": {"spec": {"containers": [container]}}}
            if ("Deployment", name) not in self.store.objects:
                metadata = {"name": name, "ownerReferences": [{"uid": service["metadata"]["uid"]}]}
                self.store.create({"kind": "Deployment", "metadata": metadata, "spec": spec, "pods": []})
            elif self.store.objects["Deployment", name]["spec"] != spec:
                self.store.replace({**self.store.get("Deployment", name), "spec": spec})

    def _garbage(self):
        """A Deployment goes some time after its InferenceService, even if there is another of that name."""
        owners = {service["metadata"]["uid"] for service in self.store.list("InferenceService")}
        for deployment in self.store.list("Deployment"):
            if deployment["metadata"]["ownerReferences"][0]["uid"] not in owners:
                self.store.delete(deployment)

    def _deployment(self):
        """One new pod at a time; old ones go when a new one is ready."""
        for (kind, name), deployment in self.store.objects.items():
            if kind != "Deployment":
                continue
            look = deployment["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
            pods = deployment["pods"]
            if not any(pod["look"] == look for pod in pods):
                pods.append({"look": look, "ready": False})
            if any(pod["look"] == look and pod["ready"] for pod in pods):
                pods[:] = [pod for pod in pods if pod["look"] == look]
            status = {
                "observedGeneration": deployment["metadata"]["generation"],
                "replicas": len(pods),
                "updatedReplicas": sum(pod["look"] == look for pod in pods),
                "availableReplicas": sum(pod["ready"] for pod in pods),
            }
            self.store.set_status("Deployment", name, status)

    def _pods(self):
        for (kind, _), deployment in self.store.objects.items():
            if kind == "Deployment":
                for pod in deployment["pods"]:
                    pod["ready"] = pod["look"] not in self.bad

    def _route(self):
        route = self.store.objects["HTTPRoute", "emoji"]
        self.routed = copy.deepcopy(route["spec"]["rules"][1]["backendRefs"])
        conditions = [
            {"type": kind, "status": "True", "observedGeneration": route["metadata"]["generation"]}
            for kind in ("Accepted", "ResolvedRefs")
        ]
        self.store.set_status("HTTPRoute", "emoji", {"parents": [{"conditions": conditions}]})
