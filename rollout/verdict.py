"""Whether a new look may go on: what was measured, against limits. Measures nothing, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rollout.metrics import Measured


@dataclass(frozen=True, slots=True)
class Limits:
    """What a new look must keep."""

    max_error_rate: float = 0.01
    """Replies 5xx by request."""
    max_p95: float | None = None
    """Seconds."""
    max_error_rate_over_stable: float | None = None
    """Added to the stable look's own rate."""
    max_p95_times_stable: float | None = None
    """Times the stable look's own p95."""
    max_restarts: int = 0
    """Of the predictors' containers: a request in a process that dies is in no counter."""
    min_requests: int = 20
    """Fewer tell nothing."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Good, bad, or not known yet, and why."""

    kind: Literal["good", "bad", "unknown"]
    why: str


def judge(new: Measured, stable: Measured, limits: Limits) -> Verdict:
    """Judge what the new look did; the stable one counts only for limits that are relative to it."""
    if new.restarts > limits.max_restarts:
        return Verdict("bad", f"its predictor restarted {new.restarts} times (limit {limits.max_restarts})")
    if new.requests < limits.min_requests:
        return Verdict("unknown", f"{new.requests} of {limits.min_requests} requests seen")
    if new.error_rate > limits.max_error_rate:
        return Verdict("bad", f"error rate {new.error_rate:.1%} > {limits.max_error_rate:.1%} ({new})")
    comparable = stable.requests >= limits.min_requests
    if comparable and limits.max_error_rate_over_stable is not None:
        most = stable.error_rate + limits.max_error_rate_over_stable
        if new.error_rate > most:
            return Verdict(
                "bad", f"error rate {new.error_rate:.1%} > {most:.1%}, from that of stable ({new})"
            )
    if limits.max_p95 is None and limits.max_p95_times_stable is None:
        return Verdict("good", str(new))
    if new.timed < limits.min_requests:
        return Verdict("unknown", f"{new.timed} of {limits.min_requests} requests timed")
    if limits.max_p95 is not None and new.p95 > limits.max_p95:
        return Verdict("bad", f"p95 {new.p95:.2f} s > {limits.max_p95:.2f} s ({new})")
    if comparable and stable.timed >= limits.min_requests and limits.max_p95_times_stable is not None:
        most = stable.p95 * limits.max_p95_times_stable
        if new.p95 > most:
            return Verdict(
                "bad", f"p95 {new.p95:.2f} s > {most:.2f} s, from stable's {stable.p95:.2f} s ({new})"
            )
    return Verdict("good", str(new))


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a step is watched, in seconds."""

    every: float
    """At least, where nothing bad is seen."""
    max_wait: float
    """At most, for enough requests to judge."""


def decide(verdict: Verdict, elapsed: float, pace: Pace) -> Literal["watch", "go on", "roll back", "stop"]:
    """What to do after watching for so long."""
    if verdict.kind == "bad":
        return "roll back"
    if elapsed < pace.every:
        return "watch"
    if verdict.kind == "good":
        return "go on"
    return "watch" if elapsed < max(pace.max_wait, pace.every) else "stop"
