"""What KServe's and Knative's controllers do with one InferenceService, a step at a time, from their source.

KServe 0.20: pkg/controller/v1beta1/inferenceservice/reconcilers/knative/ksvc_reconciler.go (traffic targets)
and pkg/apis/serving/v1beta1/inference_service_status.go (PropagateStatus). Knative 0.48: the newest ready
revision serves `latestRevision: true`; each change of the template makes a revision.
"""

import copy

from rollout.cluster import Cluster
from tests.rollout.object_store import ObjectStore

NAME = "emoji-predictor"


class SimulatedKnative:
    controllers = ("kserve", "configuration", "ready", "route")
    splits = (("InferenceService", "emoji"),)
    """The objects whose spec splits the traffic."""

    def __init__(self, look, bad=()):
        self.bad = set(bad)
        self.store = ObjectStore()
        self.cluster = Cluster(self.store, "emoji")
        self.store.create(
            {
                "apiVersion": "serving.kserve.io/v1beta1",
                "kind": "InferenceService",
                "metadata": {"name": "emoji"},
                "spec": {"predictor": {"model": {"env": [{"name": "DEFAULT_LOOK", "value": look}]}}},
                "status": {"deploymentMode": "Knative", "components": {"predictor": {}}},
            }
        )
        self.settle()

    def run(self, controller):
        with self.store.lock:
            getattr(self, f"_{controller}")()

    def settle(self):
        for _ in range(5):
            for controller in self.controllers:
                self.run(controller)

    def revisions(self):
        return self.store.list("Revision")

    def shares(self):
        """Percent by look; "nobody" for what goes to revisions that are not ready."""
        shares = {}
        for target in self._status().get("traffic", []):
            revision = self.store.get("Revision", target["revisionName"])
            look = revision["spec"]["containers"][0]["env"][0]["value"]
            if revision["status"]["conditions"][0]["status"] != "True":
                look = "nobody"
            shares[look] = shares.get(look, 0) + target["percent"]
        return {look: percent for look, percent in shares.items() if percent}

    def _status(self):
        return self.store.get("KnativeService", NAME).get("status", {})

    def _set_status(self, **fields):
        self.store.set_status("KnativeService", NAME, {**self._status(), **fields})

    def _kserve(self):
        service = self.store.get("InferenceService", "emoji")
        component = service["status"]["components"]["predictor"]
        percent = service["spec"]["predictor"].get("canaryTrafficPercent")
        rolled_out = component.get("latestRolledoutRevision", "")
        targets = [{"latestRevision": True, "percent": 100}]
        if percent is not None and rolled_out:
            targets = [{"latestRevision": True, "percent": percent}]
            if percent < 100:
                targets.append({"revisionName": rolled_out, "percent": 100 - percent})
        container = {"name": "kserve-container", **service["spec"]["predictor"]["model"]}
        spec = {"template": {"spec": {"containers": [container]}}, "traffic": targets}
        if ("KnativeService", NAME) not in self.store.objects:
            self.store.create({"kind": "KnativeService", "metadata": {"name": NAME}, "spec": spec})
        elif self.store.get("KnativeService", NAME)["spec"] != spec:
            self.store.replace({**self.store.get("KnativeService", NAME), "spec": spec})
        self._propagate_status(component)
        self.store.set_status("InferenceService", "emoji", service["status"])

    def _propagate_status(self, component):
        status = self._status()
        newest_ready, traffic = status.get("latestReadyRevisionName"), status.get("traffic", [])
        by_revision = {}
        for target in traffic:
            name = target["revisionName"]
            by_revision[name] = by_revision.get(name, 0) + target["percent"]
        for target in traffic:
            if target["revisionName"] != newest_ready or not target.get("latestRevision"):
                continue
            if component.get("latestRolledoutRevision") != newest_ready:
                if target["percent"] == 100:
                    component["previousRolledoutRevision"] = component.get("latestRolledoutRevision", "")
                    component["latestRolledoutRevision"] = newest_ready
            elif (
                newest_ready == status["latestCreatedRevisionName"]
                and target["percent"] < 100
                and by_revision[target["revisionName"]] == 100
                and component.get("previousRolledoutRevision")
            ):
                component["latestRolledoutRevision"] = component["previousRolledoutRevision"]

    def _configuration(self):
        template = self.store.get("KnativeService", NAME)["spec"]["template"]
        revisions = self.revisions()
        if revisions and revisions[-1]["spec"] == template["spec"]:
            return
        name = f"{NAME}-{len(revisions) + 1:05}"
        conditions = [{"type": "Ready", "status": "Unknown"}]
        self.store.create(
            {
                "kind": "Revision",
                "metadata": {"name": name},
                "spec": copy.deepcopy(template["spec"]),
                "status": {"conditions": conditions},
            }
        )
        self._set_status(latestCreatedRevisionName=name)

    def _ready(self):
        for revision in self.revisions():
            name = revision["metadata"]["name"]
            condition = {"type": "Ready", "status": "True"}
            if revision["spec"]["containers"][0]["env"][0]["value"] in self.bad:
                condition["status"] = "False"
                condition["reason"] = "ExitCode1"
                condition["message"] = "Container failed with: predictor: there is no such LoRA"
            else:
                self._set_status(latestReadyRevisionName=name)
            self.store.set_status("Revision", name, {"conditions": [condition]})

    def _route(self):
        # A revision is made at once, routes take longer: by then the newest revision is there.
        self._configuration()
        service = self.store.get("KnativeService", NAME)
        newest_ready = service["status"].get("latestReadyRevisionName")
        if not newest_ready:
            return
        traffic = [
            {
                **target,
                "revisionName": newest_ready if target.get("latestRevision") else target["revisionName"],
            }
            for target in service["spec"]["traffic"]
        ]
        self._set_status(
            traffic=traffic,
            observedGeneration=service["metadata"]["generation"],
            conditions=[{"type": "RoutesReady", "status": "True"}],
        )
