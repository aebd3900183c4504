"""The HTTPRoute whose weights split the traffic between the Services of two versions.

Works on the object as it comes from the API server, and returns changed copies; it knows no looks.
"""

from __future__ import annotations

import copy

from rollout.plan import Json


def percent_of(route: Json, stable: str, canary: str) -> int:
    """The canary's share of the weights, over all rules."""
    weights = {stable: 0, canary: 0}
    for rule in route["spec"].get("rules", []):
        for backend in rule.get("backendRefs", []):
            if backend["name"] in weights:
                weights[backend["name"]] += backend.get("weight", 1)
    total = sum(weights.values())
    return round(100 * weights[canary] / total) if total else 0


def sends_to(route: Json, service: str) -> bool:
    """Whether any rule sends to this Service."""
    rules = route["spec"].get("rules", [])
    return any(backend["name"] == service for rule in rules for backend in rule.get("backendRefs", []))


def with_percent(route: Json, stable: str, canary: str, percent: int) -> Json:
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


def is_taken_up(route: Json) -> bool:
    """Whether every gateway has taken up the route as it is now, and found its Services."""
    parents = route.get("status", {}).get("parents", [])
    generation = route["metadata"].get("generation")
    return bool(parents) and all(
        condition["status"] == "True" and condition.get("observedGeneration") == generation
        for parent in parents
        for condition in parent.get("conditions", [])
        if condition["type"] in ("Accepted", "ResolvedRefs")
    )
