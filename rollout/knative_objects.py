"""What the objects of Knative mode say: looks, revisions, and their shares of the traffic.

Plans nothing (knative.py does), and talks to nobody.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from rollout import inference_service as isvc
from rollout.diagnosis import condition, is_ready, plain, why_not_ready
from rollout.plan import Json, Role, Version, shown

REVISION_LABEL = "serving.knative.dev/revision"


@dataclass(frozen=True)
class KnativeObjects:
    """All that was read, at about one time."""

    service: Json
    """The InferenceService."""
    knative_service: Json
    """The Knative Service of its predictor; empty while KServe has not made it."""
    revisions: tuple[Json, ...]
    pods: tuple[Json, ...]
    mode: ClassVar[str] = "Knative"

    def versions(self) -> tuple[Version, ...]:
        """The stable revision, the canary where there is one, and others that still get traffic."""
        roles: dict[str, Role] = dict.fromkeys(self.traffic, "old")
        if self.created:
            roles[self.created] = "canary"
        if self.stable:
            roles[self.stable] = "stable"
        versions = [self._version(name, role) for name, role in roles.items()]
        return tuple(sorted(versions, key=lambda version: (version.role != "stable", version.name)))

    def summary(self) -> str:
        """The state in one line."""
        served = ", ".join(f"{shown(v.look)} has {v.percent} %" for v in self.versions() if v.percent)
        share = (
            "all the traffic"
            if self.asked_percent is None
            else f"{self.asked_percent} % for the newest revision"
        )
        return f"{served or 'nothing is served'}; asked for {shown(self.asked_look)}, {share}"

    def has_canary(self, look: str) -> bool:
        """Whether a canary of this look is asked for."""
        return self.asked_percent is not None and self.asked_look == look

    def asked_share(self, look: str) -> int:
        """Percent of the traffic that is asked for this look: 100 from the beginning of its promotion."""
        if self.asked_look != look:
            return 0
        return 100 if self.asked_percent is None else self.asked_percent

    @cached_property
    def asked_look(self) -> str | None:
        """The look of the spec."""
        return isvc.look(self.service)

    @cached_property
    def asked_percent(self) -> int | None:
        """The canary's share in the spec."""
        return isvc.canary_percent(self.service)

    @property
    def _component(self) -> Json:
        component: Json = self.service.get("status", {}).get("components", {}).get("predictor", {})
        return component

    @property
    def rolled_out(self) -> str:
        """The last revision with 100 %, by KServe's status."""
        return str(self._component.get("latestRolledoutRevision", ""))

    @property
    def previous(self) -> str:
        """The revision rolled out before that."""
        return str(self._component.get("previousRolledoutRevision", ""))

    @property
    def created(self) -> str:
        """The newest revision."""
        return str(self.knative_service.get("status", {}).get("latestCreatedRevisionName", ""))

    @property
    def newest_ready(self) -> str:
        """The newest revision that was ready."""
        return str(self.knative_service.get("status", {}).get("latestReadyRevisionName", ""))

    @cached_property
    def traffic(self) -> Counter[str]:
        """Percent of the traffic by revision, as Knative says, without those that get none."""
        traffic: Counter[str] = Counter()
        for target in self.knative_service.get("status", {}).get("traffic", []):
            traffic[target.get("revisionName", "")] += target.get("percent") or 0
        return +traffic

    def has_traffic(self, shares: dict[str, int]) -> bool:
        """Whether the traffic is split like this, and the gateways know it."""
        observed = self.knative_service.get("status", {}).get("observedGeneration")
        routed = condition(self.knative_service, "RoutesReady").get("status") == "True"
        settled = routed and observed == self.knative_service["metadata"].get("generation")
        return settled and self.traffic == +Counter(shares)

    @property
    def synced(self) -> bool:
        """Whether the newest revision is of the look that is asked for."""
        return bool(self.created) and self.look_of(self.created) == self.asked_look

    @property
    def stable(self) -> str:
        """The revision to fall back on."""
        going_back = self.asked_percent is not None and self.rolled_out == self.created and self.synced
        return self.previous if going_back and self.previous else self.rolled_out

    def look_of(self, name: str) -> str | None:
        """The look of a revision."""
        revision = self.revision(name)
        return isvc.look_in_pod_spec(revision["spec"]) if revision else None

    def other_differences(self) -> list[str]:
        """In what the newest revision differs from the stable one, but for the look."""
        newest, stable = (
            isvc.without_look(self.revision(name).get("spec", {})) for name in (self.created, self.stable)
        )
        return sorted(key for key in newest.keys() | stable.keys() if newest.get(key) != stable.get(key))

    def problem(self, name: str) -> str:
        """Why a revision isn't ready."""
        ready = condition(self.revision(name), "Ready")
        said = plain(": ".join(filter(None, (ready.get("reason"), ready.get("message")))))
        return why_not_ready(self._pods(name)) or said or f"Knative takes up {name}"

    def why_not_synced(self) -> str | None:
        """What KServe says while it has not handed the spec on to Knative."""
        if self.synced:
            return None
        ready = condition(self.service, "PredictorReady")
        if ready.get("status") == "False" and ready.get("message"):
            return f"KServe: {plain(ready['message'])}"
        return f"waiting for KServe to ask Knative for {shown(self.asked_look)}"

    def revision(self, name: str) -> Json:
        """A revision; empty where it is not there."""
        return next((r for r in self.revisions if r["metadata"]["name"] == name), {})

    def _pods(self, name: str) -> tuple[Json, ...]:
        return tuple(pod for pod in self.pods if pod["metadata"]["labels"].get(REVISION_LABEL) == name)

    def _version(self, name: str, role: Role) -> Version:
        ready = condition(self.revision(name), "Ready").get("status") == "True"
        pods = self._pods(name)
        return Version(
            role=role,
            name=name,
            look=self.look_of(name),
            percent=self.traffic[name],
            ready=ready,
            ready_pods=sum(map(is_ready, pods)),
            pods=pods,
            problem=None if ready else self.problem(name),
        )
