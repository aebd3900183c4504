"""Knative mode: each look is a revision of one Knative Service, which splits the traffic.

How KServe steers it, and what follows from that:

- `canaryTrafficPercent: p` gives the newest *ready* revision p %, the last one *rolled out* (it once had
  100 %) the rest. Without the field the newest ready one gets all. So a canary that never gets ready never
  gets a request.
- The field must not be removed before the revision that should serve is the newest ready one, else the
  canary gets all: a rollback gives the canary 0 %, which is there at once, asks for the old look, waits
  until that revision is ready, and only then removes the field.
- With a share below 100 % and the newest revision already rolled out, KServe goes back to the revision
  rolled out before. That is how a promotion is taken back; and why no share may stand there with no newer
  revision on its way.
- Conditions and observedGeneration of the InferenceService lag behind; the Knative Service's do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from rollout import inference_service as isvc
from rollout.diagnosis import condition
from rollout.knative_objects import KnativeObjects
from rollout.plan import Canary, Change, Done, Goal, Promote, Refuse, Rollback, Step, Wait, shown


@dataclass(frozen=True)
class KnativeState(KnativeObjects):
    """What was read, and the plans from it."""

    def plan(self, goal: Goal) -> Step:
        """The next step towards a goal."""
        if not self.rolled_out:
            return Wait(f"no revision was ever ready: {self.why_not_synced() or self.problem(self.created)}")
        match goal:
            case Canary():
                return self._plan_canary(goal)
            case Promote():
                return self._plan_promote()
            case Rollback():
                return self._plan_rollback(goal)

    def _plan_canary(self, goal: Canary) -> Step:
        stable_look = self.look_of(self.rolled_out)
        if self.asked_look == goal.look and self.asked_percent not in (None, 0) and goal.look != stable_look:
            if self.asked_percent != goal.percent:
                changed = isvc.with_canary_percent(self.service, goal.percent)
                return Change(
                    "replace", changed, f"canary {goal.look}: {self.asked_percent} % -> {goal.percent} %"
                )
            return self._wait_for_traffic(goal.percent)
        if self.asked_percent is not None and self.asked_look != stable_look:
            if self.asked_look == goal.look:
                return Refuse(f"a rollback of {goal.look} is under way: `rollback` finishes it")
            return Refuse(
                f"a canary to {shown(self.asked_look)} is on ({self.asked_percent} %): "
                "`promote` or `rollback` it first"
            )
        settled = self._plan_settle()
        if self.asked_percent is not None and self.other_differences():
            return Refuse(f"a canary of something else than the look is on ({self.asked_percent} %)")
        if not isinstance(settled, Done):
            return settled
        if goal.look == stable_look:
            return Refuse(f"{goal.look} is what is served already, with all the traffic")
        changed = isvc.with_canary_percent(isvc.with_look(self.service, goal.look), goal.percent)
        return Change("replace", changed, f"canary {goal.look}: asked for {goal.percent} %")

    def _plan_promote(self) -> Step:
        if self.asked_percent is None:
            return self._plan_settle()
        if self.asked_percent == 0 or self.created == self.stable:
            return Refuse(
                "there is no canary with traffic to promote; `rollback` finishes one that was begun"
            )
        if not self.synced or self.newest_ready != self.created:
            return Refuse(f"the canary is not ready: {self.why_not_synced() or self.problem(self.created)}")
        changed = isvc.with_canary_percent(self.service, None)
        return Change("replace", changed, f"promote {shown(self.asked_look)}: asked for all the traffic")

    def _plan_rollback(self, goal: Rollback) -> Step:
        old_look = self.look_of(self.stable)
        if goal.only not in (None, self.asked_look):
            if self.asked_percent or self.asked_look != old_look:
                return Refuse(f"{goal.only} is not what is being rolled out any more: {self.summary()}")
            return self._plan_settle()
        if self.asked_percent is None and self.asked_look == self.look_of(self.rolled_out):
            return self._plan_take_back_promotion(goal)
        if self.asked_look != old_look and self.created == self.rolled_out and not self.synced:
            if condition(self.service, "PredictorReady").get("reason") != "ReconcileFailed":
                # A revision may be on its way, and without a share it would get all the traffic.
                return Wait(self.why_not_synced() or "")
            changed = isvc.with_canary_percent(isvc.with_look(self.service, old_look), None)
            return Change("replace", changed, f"take back {shown(self.asked_look)}, which KServe refuses")
        other = self.other_differences() if self.synced else []
        if self.asked_look == old_look and not other:
            return self._plan_settle()
        if self.asked_percent != 0:
            changed = isvc.with_canary_percent(self.service, 0)
            return Change("replace", changed, f"take the traffic from {self.created}: asked for 0 %")
        if self.rolled_out != self.stable or not self.has_traffic({self.stable: 100}):
            return Wait(f"waiting for all the traffic at {self.stable} ({shown(old_look)})")
        if other:
            return Done(
                f"{shown(old_look)} has all the traffic again ({self.stable}). The spec still asks for "
                f"another {', '.join(other)}: put that back, leave `canaryTrafficPercent: 0`, "
                "and `rollback` once more"
            )
        changed = isvc.with_look(self.service, old_look)
        return Change(
            "replace", changed, f"{shown(old_look)} has all the traffic again; asked for it as the look"
        )

    def _plan_take_back_promotion(self, goal: Rollback) -> Step:
        settled = self._plan_settle()
        if not isinstance(settled, Done):
            return settled
        if (
            not self.previous
            or not self.revision(self.previous)
            or self.look_of(self.previous) == self.asked_look
        ):
            return settled if goal.only is None else Refuse(f"{goal.only} stays: no look before it is known")
        changed = isvc.with_canary_percent(self.service, 0)
        return Change(
            "replace",
            changed,
            f"take the traffic back from {shown(self.asked_look)}, promoted before: asked for 0 %",
        )

    def _plan_settle(self) -> Step:
        """Towards one look with all the traffic and no share in the spec; the look that is asked for."""
        if not self.synced:
            return Wait(self.why_not_synced() or "waiting for a new revision")
        if self.newest_ready != self.created:
            return Wait(
                f"waiting for {self.created} ({shown(self.asked_look)}): {self.problem(self.created)}"
            )
        if self.asked_percent is not None:
            if self.created == self.rolled_out and self.previous and self.asked_percent < 100:
                return Wait(f"waiting for KServe to go back to {self.previous}")
            changed = isvc.with_canary_percent(self.service, None)
            return Change(
                "replace",
                changed,
                f"{self.created} is ready: asked for all traffic at {shown(self.asked_look)}",
            )
        if not self.has_traffic({self.created: 100}) or self.rolled_out != self.created:
            return Wait(f"waiting for all the traffic at {self.created} ({shown(self.asked_look)})")
        return Done(f"{shown(self.asked_look)} has all the traffic ({self.created})")

    def _wait_for_traffic(self, percent: int) -> Step:
        look = shown(self.asked_look)
        if not self.synced:
            return Wait(self.why_not_synced() or f"waiting for a revision of {look}")
        if self.newest_ready != self.created:
            return Wait(f"waiting for {self.created} ({look}): {self.problem(self.created)}")
        if not self.has_traffic({self.created: percent, self.rolled_out: 100 - percent}):
            return Wait(f"waiting for {percent} % of the traffic at {self.created} ({look})")
        stable = shown(self.look_of(self.rolled_out))
        return Done(f"{look} has {percent} % of the traffic ({self.created}), {stable} {100 - percent} %")
