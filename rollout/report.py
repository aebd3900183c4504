"""The state of a rollout for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rollout.cluster import State
from rollout.plan import Json, Version, shown

COLUMNS = ("ROLE", "LOOK", "TRAFFIC", "PODS", "NAME", "STATE")


def as_json(state: State, events: Sequence[Json]) -> dict[str, Any]:
    """For `--output json`; fields may be added, and will not change."""
    service = state.service
    return {
        "service": service["metadata"]["name"],
        "namespace": service["metadata"]["namespace"],
        "mode": state.mode,
        "summary": state.summary(),
        "versions": [
            {
                "role": version.role,
                "look": version.look,
                "percent": version.percent,
                "name": version.name,
                "ready": version.ready,
                "pods": {"ready": version.ready_pods, "all": len(version.pods)},
                "problem": version.problem,
            }
            for version in state.versions()
        ],
        "events": [
            {"time": event["lastTimestamp"], "reason": event["reason"], "message": event["message"]}
            for event in events
        ],
    }


def as_text(state: State, events: Sequence[Json]) -> str:
    """For a terminal."""
    metadata = state.service["metadata"]
    rows = [COLUMNS, *(_row(version) for version in state.versions())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
    lines = [f"{metadata['namespace']}/{metadata['name']} ({state.mode} mode): {state.summary()}", ""]
    lines += [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    if events:
        lines += ["", "Last rollouts:"]
        lines += [f"  {event['lastTimestamp']}  {event['reason']}: {event['message']}" for event in events]
    return "\n".join(lines)


def _row(version: Version) -> tuple[str, ...]:
    return (
        version.role,
        shown(version.look),
        f"{version.percent} %",
        f"{version.ready_pods}/{len(version.pods)}",
        version.name,
        "ready" if version.ready else f"not ready: {version.problem}",
    )
