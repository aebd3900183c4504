"""Why pods are not ready, in one plain line: read from their statuses.

Knows pods only; the reason of a revision or a Deployment is looked for by those who know these.
"""

from __future__ import annotations

from collections.abc import Iterable

from rollout.plan import Json

MAX_REASON = 300
# What kubelet waits for in the ordinary course of a start.
ORDINARY = {None, "ContainerCreating", "PodInitializing"}


def condition(thing: Json, kind: str) -> Json:
    """The condition of this type in an object's status; empty where there is none."""
    conditions = thing.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def is_ready(pod: Json) -> bool:
    """Whether the pod gets requests."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    return condition(pod, "Ready").get("status") == "True"


def why_not_ready(pods: Iterable[Json]) -> str | None:
    """The gravest reason among these pods; None where each is ready or going, or there are none."""
    reasons = [
        _pod_problem(pod) for pod in pods if not is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]
    return max(reasons)[1] if reasons else None


def plain(text: str) -> str:
    """One line of a text: the last one that says something, which in a log is what a process died of."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = lines[-1] if lines else ""
    # It comes from a container and goes to terminals and logs.
    return "".join(c if c.isprintable() else "\ufffd" for c in line[:MAX_REASON])


def _pod_problem(pod: Json) -> tuple[int, str]:
    """How grave, and what."""
    name, status = pod["metadata"]["name"], pod["status"]
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return 2, f"pod {name} cannot be scheduled: {plain(scheduled.get('message', ''))}"
    containers = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
    for container in containers:
        problem = _container_problem(container)
        if problem:
            return 3, f"pod {name}: {problem}"
    if status.get("phase") == "Failed":
        why = plain(status.get("message", "")) or status.get("reason", "no reason given")
        return 2, f"pod {name} failed: {why}"
    own = status.get("containerStatuses", [])
    if own and all("running" in container.get("state", {}) for container in own):
        return 1, f"pod {name} runs and is not ready yet"
    return 0, f"pod {name} is starting"


def _container_problem(container: Json) -> str | None:
    state, name = container.get("state", {}), container["name"]
    waiting = state.get("waiting", {}).get("reason")
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated")
    if ended and ended.get("exitCode") != 0:
        how = f"{name} ended with exit status {ended.get('exitCode')}"
        if ended.get("reason") not in (None, "Error"):
            how += f" ({ended['reason']})"
        if container.get("restartCount"):
            how += f", restarted {container['restartCount']} times"
        said = plain(ended.get("message", ""))
        return f"{how}: {said}" if said else how
    if waiting not in ORDINARY:
        said = plain(state["waiting"].get("message", ""))
        return f"{name}: {waiting}: {said}" if said else f"{name}: {waiting}"
    return None
