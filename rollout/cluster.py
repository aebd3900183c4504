"""One InferenceService in a cluster: reads its state, does a step's write, reads what its predictors say,
keeps a record.

Plans nothing and waits for nothing.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping

from rollout import inference_service as isvc
from rollout.api import Api
from rollout.errors import NotFound, Refused
from rollout.knative import KnativeState
from rollout.plan import Change, Json
from rollout.standard import StandardState

State = KnativeState | StandardState

COMPONENT = "rollout"
MODEL = "emoji"
"""The model that draws in the look of a rollout, whatever the InferenceService is called."""
RECORD = 5
"""So many of the last events are shown."""


class Cluster:
    """One InferenceService."""

    def __init__(self, api: Api, service: str) -> None:
        self.api = api
        self.service = service

    def read(self) -> State:
        """The state now."""
        try:
            service = self.api.get("InferenceService", self.service)
        except NotFound as error:
            raise Refused(
                f"there is no InferenceService {self.service} in {self.api.namespace}: {error}"
            ) from error
        if isvc.mode(service) == "knative":
            return self._read_knative(service)
        return self._read_standard(service)

    def write(self, change: Change) -> None:
        """Do it, or Conflict where the object is not as it was read."""
        match change.verb:
            case "create":
                self.api.create(change.body)
            case "replace":
                self.api.replace(change.body)
            case "delete":
                self.api.delete(change.body)

    def metrics(self, pod: Json) -> str:
        """The Prometheus metrics of a predictor's pod."""
        return self.api.pod_text(pod["metadata"]["name"], _rest_port(pod), "metrics")

    def alias(self, pod: Json) -> Mapping[str, int]:
        """The shares in percent of the weighted alias `emoji` in a predictor's pod; empty where it is none.

        ValueError where the pod answers something else than a predictor.
        """
        text = self.api.pod_text(pod["metadata"]["name"], _rest_port(pod), f"v2/models/{MODEL}")
        match json.loads(text):
            case {"name": str(), "parameters": {"route": dict(shares)}}:
                return shares
            case {"name": str()}:
                return {}
        raise ValueError(f"not the metadata of a model: {text[:200]}")

    def record(self, kind: str, reason: str, note: str) -> None:
        """Leave an event at the InferenceService, for `status` and `kubectl describe`.

        Args:
            kind: Normal or Warning.
            reason: one word, CamelCase.
            note: a sentence.
        """
        service = self.api.get("InferenceService", self.service)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {"generateName": f"{self.service}-rollout-", "namespace": self.api.namespace}
        about = {key: service["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        self.api.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": metadata,
                "involvedObject": {"apiVersion": service["apiVersion"], "kind": service["kind"], **about},
                "type": kind,
                "reason": reason,
                "message": note[:1024],
                "source": {"component": COMPONENT},
                "firstTimestamp": now,
                "lastTimestamp": now,
                "count": 1,
            }
        )

    def events(self) -> tuple[Json, ...]:
        """The last records, the newest last."""
        chosen = f"involvedObject.kind=InferenceService,involvedObject.name={self.service},source={COMPONENT}"
        events = self.api.list("Event", fieldSelector=chosen)
        return tuple(sorted(events, key=lambda event: str(event["lastTimestamp"]))[-RECORD:])

    def _find(self, kind: str, name: str) -> Json | None:
        try:
            return self.api.get(kind, name)
        except NotFound:
            return None

    def _read_knative(self, service: Json) -> KnativeState:
        name = f"{self.service}-predictor"
        return KnativeState(
            service=service,
            knative_service=self._find("KnativeService", name) or {},
            revisions=self.api.list("Revision", labelSelector=f"serving.knative.dev/service={name}"),
            pods=self.api.list("Pod", labelSelector=f"serving.knative.dev/service={name}"),
        )

    def _read_standard(self, service: Json) -> StandardState:
        route = self._find("HTTPRoute", self.service)
        if route is None:
            raise Refused(f"Standard mode needs the HTTPRoute {self.service}: its weights split the traffic")
        canary = f"{self.service}-canary"
        names = [f"{self.service}-predictor", f"{canary}-predictor"]
        deployments = [self._find("Deployment", name) for name in names]
        labels = ",".join(f"isvc.{name}" for name in names)
        return StandardState(
            service=service,
            canary=self._find("InferenceService", canary),
            route=route,
            deployments=tuple(deployment for deployment in deployments if deployment is not None),
            pods=self.api.list("Pod", labelSelector=f"app in ({labels})"),
        )


def _rest_port(pod: Json) -> int:
    """The REST port of the predictor's container: the first that it names."""
    for container in pod["spec"]["containers"]:
        if container["name"] == isvc.CONTAINER:
            for port in container.get("ports", []):
                return int(port["containerPort"])
    return 8080
