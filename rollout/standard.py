"""Standard mode: each look is an InferenceService of its own, and the weights of our HTTPRoute split the
traffic.

KServe ignores `canaryTrafficPercent` here. While a canary is on there are two services, NAME and NAME-canary,
the second a copy of the first with another look; each predictor's pods have the transformer in them. The
route NAME sends to the Services NAME-predictor and NAME-canary-predictor.

A promotion sends all traffic to the canary, gives the stable service the new look, waits for its pods, sends
all traffic back, and removes the canary. The look before it is kept in an annotation of the route, since one
of the InferenceService would restart its pods.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rollout import inference_service as isvc
from rollout.diagnosis import condition, is_ready, plain, why_not_ready
from rollout.plan import (
    Canary,
    Change,
    Done,
    Goal,
    Json,
    Promote,
    Refuse,
    Rollback,
    Step,
    Version,
    Wait,
    shown,
)

PREVIOUS_LOOK = "emoji-diffusion/previous-look"
POD_LABEL = "app"
# What tells other tools that an object is theirs must not be copied to the canary.
FOREIGN_METADATA = (
    "kubectl.kubernetes.io/",
    "meta.helm.sh/",
    "argocd.argoproj.io/",
    "helm.sh/",
    "kustomize.toolkit.",
)


@dataclass(frozen=True)
class StandardState:
    """All that was read, at about one time."""

    service: Json
    canary: Json | None
    """The InferenceService NAME-canary."""
    route: Json
    """The HTTPRoute."""
    deployments: tuple[Json, ...]
    pods: tuple[Json, ...]
    mode: ClassVar[str] = "Standard"

    def plan(self, goal: Goal) -> Step:
        """The next step towards a goal."""
        if self.canary is not None and "deletionTimestamp" in self.canary["metadata"]:
            return Wait(f"waiting for {self.canary_name} to be gone")
        match goal:
            case Canary():
                return self._plan_canary(goal)
            case Promote():
                return self._plan_promote()
            case Rollback():
                return self._plan_rollback(goal)

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

    # What the objects say.

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
        return _percent(self.route, f"{self.name}-predictor", f"{self.canary_name}-predictor")

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

    # The plans.

    def _plan_canary(self, goal: Canary) -> Step:
        if self.canary is None:
            if goal.look == self.look:
                return Refuse(f"{goal.look} is what is served already")
            problem = self.problem(self.name, self.service)
            if problem:
                return Wait(problem)
            return self._plan_weights(0) or Change(
                "create", self._new_canary(goal.look), f"canary {goal.look}: made {self.canary_name}"
            )
        if self.canary_look == self.look or self.percent == 100:
            return Refuse(
                f"a promotion of {shown(self.canary_look)} is under way: `promote` or `rollback` finishes it"
            )
        if self.canary_look != goal.look:
            return Refuse(
                f"a canary to {shown(self.canary_look)} is on ({self.percent} %): "
                "`promote` or `rollback` it first"
            )
        problem = self.problem(self.canary_name, self.canary)
        if problem and self.percent != goal.percent:
            return Wait(f"waiting for {goal.look}: {problem}")
        return self._plan_weights(goal.percent) or Done(
            f"{goal.look} has {goal.percent} % of the traffic ({self.canary_name}), "
            f"{shown(self.look)} {100 - goal.percent} %"
        )

    def _plan_promote(self) -> Step:
        if self.canary is None:
            return self._plan_stable_alone()
        if self.look != self.canary_look:
            problem = self.problem(self.canary_name, self.canary)
            if problem and self.percent < 100:
                return Refuse(f"the canary is not ready: {problem}")
            return self._plan_weights(100) or Change(
                "replace",
                isvc.with_look(self.service, self.canary_look),
                f"the canary has all the traffic; asked {self.name} for {shown(self.canary_look)}",
            )
        return self._plan_stable_alone()

    def _plan_rollback(self, goal: Rollback) -> Step:
        promoted = self.canary is None or self.look == self.canary_look
        if self.canary is not None and goal.only not in (None, self.canary_look):
            return Refuse(f"{goal.only} is not what is being rolled out any more: {self.summary()}")
        if self.canary is None and goal.only not in (None, self.look):
            return self._plan_stable_alone()
        if promoted and self.previous_look != self.look:
            return Change(
                "replace",
                isvc.with_look(self.service, self.previous_look),
                f"asked {self.name} for {shown(self.previous_look)} again",
            )
        if promoted and goal.only is not None:
            return Refuse(f"{goal.only} stays: no look before it is known")
        return self._plan_stable_alone()

    def _plan_stable_alone(self) -> Step:
        """Towards all traffic at the stable service, and no canary."""
        problem = self.problem(self.name, self.service)
        if problem and (self.canary is None or self.percent > 0):
            # Weights go only to what is ready: until then the canary keeps what it has.
            return Wait(f"waiting for {shown(self.look)}: {problem}")
        weights = self._plan_weights(0)
        if weights is not None:
            return weights
        if self.canary is not None:
            return Change(
                "delete", self.canary, f"{shown(self.look)} has all the traffic; removed {self.canary_name}"
            )
        return Done(f"{shown(self.look)} has all the traffic ({self.name})")

    def _plan_weights(self, percent: int) -> Step | None:
        """Towards this share for the canary in every rule of the route; None when it is there."""
        if not _sends_to(self.route, f"{self.name}-predictor"):
            return Refuse(f"no rule of the HTTPRoute {self.name} sends to the Service {self.name}-predictor")
        changed = _with_percent(
            self.route, f"{self.name}-predictor", f"{self.canary_name}-predictor", percent
        )
        if percent == 100:
            changed["metadata"].setdefault("annotations", {})[PREVIOUS_LOOK] = self.look or ""
        if changed != self.route:
            text = f"HTTPRoute {self.name}: {self.percent} % -> {percent} % for {self.canary_name}"
            return Change("replace", changed, text)
        if not _is_taken_up(self.route):
            return Wait(f"waiting for the gateway to take up the HTTPRoute {self.name}")
        return None

    # Small readings.

    def _pods(self, name: str) -> tuple[Json, ...]:
        label = f"isvc.{name}-predictor"
        return tuple(pod for pod in self.pods if pod["metadata"]["labels"].get(POD_LABEL) == label)

    def _new_canary(self, look: str) -> Json:
        metadata = self.service["metadata"]
        copied = {
            field: {k: v for k, v in metadata.get(field, {}).items() if not k.startswith(FOREIGN_METADATA)}
            for field in ("labels", "annotations")
        }
        spec = isvc.with_look(self.service, look)["spec"]
        # Autoscaling by a query (KEDA) must count the canary's own pods.
        for metric in spec["predictor"].get("autoScaling", {}).get("metrics", []):
            queried = metric.get("external", {}).get("metric", {})
            if "query" in queried:
                queried["query"] = queried["query"].replace(
                    f'inferenceservice="{self.name}"', f'inferenceservice="{self.canary_name}"'
                )
        return {
            "apiVersion": self.service["apiVersion"],
            "kind": self.service["kind"],
            "metadata": {"name": self.canary_name, "namespace": metadata["namespace"], **copied},
            "spec": spec,
        }


def _percent(route: Json, stable: str, canary: str) -> int:
    weights = {stable: 0, canary: 0}
    for rule in route["spec"].get("rules", []):
        for backend in rule.get("backendRefs", []):
            if backend["name"] in weights:
                weights[backend["name"]] += backend.get("weight", 1)
    total = sum(weights.values())
    return round(100 * weights[canary] / total) if total else 0


def _sends_to(route: Json, service: str) -> bool:
    rules = route["spec"].get("rules", [])
    return any(backend["name"] == service for rule in rules for backend in rule.get("backendRefs", []))


def _with_percent(route: Json, stable: str, canary: str, percent: int) -> Json:
    """A copy of a route: where it sends to stable, it sends a share to the canary. At 0 % it doesn't name it:
    its Service goes with the canary, and a route that names a Service that isn't there counts as broken.
    """
    changed = copy.deepcopy(route)
    for rule in changed["spec"].get("rules", []):
        backends = {backend["name"]: backend for backend in rule.get("backendRefs", [])}
        if stable not in backends or (not percent and canary not in backends):
            continue
        backends[stable]["weight"] = 100 - percent
        backends[canary] = {**backends[stable], "name": canary, "weight": percent}
        if not percent:
            del backends[canary]
        rule["backendRefs"] = list(backends.values())
    return changed


def _is_taken_up(route: Json) -> bool:
    parents = route.get("status", {}).get("parents", [])
    generation = route["metadata"].get("generation")
    return bool(parents) and all(
        condition["status"] == "True" and condition.get("observedGeneration") == generation
        for parent in parents
        for condition in parent.get("conditions", [])
        if condition["type"] in ("Accepted", "ResolvedRefs")
    )
