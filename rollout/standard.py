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

from dataclasses import dataclass

from rollout import inference_service as isvc
from rollout.plan import Canary, Change, Done, Goal, Json, Promote, Refuse, Rollback, Step, Wait, shown
from rollout.route import is_taken_up, sends_to, with_percent
from rollout.standard_objects import PREVIOUS_LOOK, StandardObjects

# What tells other tools that an object is theirs must not be copied to the canary.
FOREIGN_METADATA = (
    "kubectl.kubernetes.io/",
    "meta.helm.sh/",
    "argocd.argoproj.io/",
    "helm.sh/",
    "kustomize.toolkit.",
)


@dataclass(frozen=True)
class StandardState(StandardObjects):
    """What was read, and the plans from it."""

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
        if not sends_to(self.route, f"{self.name}-predictor"):
            return Refuse(f"no rule of the HTTPRoute {self.name} sends to the Service {self.name}-predictor")
        changed = with_percent(self.route, f"{self.name}-predictor", f"{self.canary_name}-predictor", percent)
        if percent == 100:
            changed["metadata"].setdefault("annotations", {})[PREVIOUS_LOOK] = self.look or ""
        if changed != self.route:
            text = f"HTTPRoute {self.name}: {self.percent} % -> {percent} % for {self.canary_name}"
            return Change("replace", changed, text)
        if not is_taken_up(self.route):
            return Wait(f"waiting for the gateway to take up the HTTPRoute {self.name}")
        return None

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
