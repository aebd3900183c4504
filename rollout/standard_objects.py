"""What the objects of Standard mode say: the looks of the two services, their pods, and the route's shares.

Plans nothing (standard.py does), and talks to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rollout import inference_service as isvc
from rollout.diagnosis import condition, is_ready, plain, why_not_ready
from rollout.plan import Json, Version, shown
from rollout.route import percent_of

PREVIOUS_LOOK = "emoji-diffusion/previous-look"
POD_LABEL = "app"


@dataclass(frozen=True)
class StandardObjects:
    """All that was read, at about one time."""

    service: Json
    canary: Json | None
    """The InferenceService NAME-canary."""
    route: Json
    """The HTTPRoute."""
    deployments: tuple[Json, ...]
    pods: tuple[Json, ...]
    mode: ClassVar[str] = "Standard"

    def versions(self) -> tuple[Version, ...]:
        """The stable service, and the canary where there is one."""
        names = [(self.name, self.service)]
        if self.canary is not None:
            names.append((self.canary_name, self.canary))
        versions = []
        for name, service in names:
            problem = self.problem(name, service)
            pods = self._pods(name)
            versions.append(
                Version(
                    role="stable" if name == self.name else "canary",
                    name=name,
                    look=isvc.look(service),
                    percent=self.percent if name == self.canary_name else 100 - self.percent,
                    ready=problem is None,
                    ready_pods=sum(map(is_ready, pods)),
                    pods=pods,
                    problem=problem,
                )
            )
        return tuple(versions)

    def summary(self) -> str:
        """The state in one line."""
        return ", ".join(f"{shown(v.look)} has {v.percent} % ({v.name})" for v in self.versions())

    def has_canary(self, look: str) -> bool:
        """Whether a canary of this look is on."""
        return self.canary is not None and self.canary_look == look

    def asked_share(self, look: str) -> int:
        """Percent of the traffic that is asked for this look: 100 from the beginning of its promotion."""
        if self.look == look:
            return 100
        return self.percent if self.has_canary(look) else 0

    @property
    def name(self) -> str:
        """The InferenceService."""
        return str(self.service["metadata"]["name"])

    @property
    def canary_name(self) -> str:
        """Its canary."""
        return f"{self.name}-canary"

    @cached_property
    def look(self) -> str | None:
        """The look of the stable service."""
        return isvc.look(self.service)

    @cached_property
    def canary_look(self) -> str | None:
        """The look of the canary."""
        return None if self.canary is None else isvc.look(self.canary)

    @property
    def previous_look(self) -> str | None:
        """The look before the last promotion; where none is noted, the one of now."""
        noted: str | None = self.route["metadata"].get("annotations", {}).get(PREVIOUS_LOOK)
        return self.look if noted is None else noted or None

    @cached_property
    def percent(self) -> int:
        """The canary's share of the route's weights."""
        return percent_of(self.route, f"{self.name}-predictor", f"{self.canary_name}-predictor")

    def problem(self, name: str, service: Json) -> str | None:
        """Why the pods of a service are not all ready and of its look; None when they are."""
        deployment = next((d for d in self.deployments if d["metadata"]["name"] == f"{name}-predictor"), None)
        if deployment is None:
            ready = condition(service, "PredictorReady")
            refused = plain(ready.get("message", "")) if ready.get("status") == "False" else ""
            return f"KServe: {refused}" if refused else f"waiting for KServe to make the Deployment of {name}"
        owners = [owner["uid"] for owner in deployment["metadata"].get("ownerReferences", [])]
        if owners and service["metadata"]["uid"] not in owners:
            # It was a former canary's, and still serves; it will be gone in a moment.
            return f"waiting for the former Deployment of {name} to be gone"
        if isvc.look_in_pod_spec(deployment["spec"]["template"]["spec"]) != isvc.look(service):
            return f"waiting for KServe to update the Deployment of {name}"
        status = deployment.get("status", {})
        if status.get("observedGeneration") != deployment["metadata"].get("generation"):
            return f"waiting for the Deployment of {name} to be taken up"
        updated, every = status.get("updatedReplicas", 0), status.get("replicas", 0)
        if updated == every and status.get("availableReplicas", 0) > 0:
            return None
        failure = condition(deployment, "ReplicaFailure")
        said = f"{failure.get('reason')}: {plain(failure.get('message', ''))}" if failure else None
        counts = (
            f"{status.get('availableReplicas', 0)} of {every} pods of {name} are available, {updated} are new"
        )
        return why_not_ready(self._pods(name)) or said or counts

    def _pods(self, name: str) -> tuple[Json, ...]:
        label = f"isvc.{name}-predictor"
        return tuple(pod for pod in self.pods if pod["metadata"]["labels"].get(POD_LABEL) == label)
