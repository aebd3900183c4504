"""`rollout auto`: a canary in steps, each watched and judged, to promotion or back.

It decides by verdict.py, and moves the traffic as the other commands do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rollout.cluster import State
from rollout.driver import Driver
from rollout.errors import Forbidden, NotFound, Refused, TimedOut, Unavailable
from rollout.inference_service import CONTAINER
from rollout.metrics import Process, Watch, parse
from rollout.plan import Canary, Change, Done, Json, Promote, Refuse
from rollout.verdict import Limits, Pace, decide, judge

READ_SECONDS = 5.0


class Auto:
    """One run."""

    def __init__(self, driver: Driver, steps: Sequence[int], limits: Limits, pace: Pace) -> None:
        self._driver = driver
        self._steps = steps
        self._limits = limits
        self._pace = pace

    def run(self, look: str) -> str:
        """Take a look through all the steps; RolledBack, with the reason, where one goes badly."""
        state = self._driver.read()
        if isinstance(state.plan(Promote()), Done) and _serving(state, look):
            text = f"nothing to do: {look} has all the traffic"
            self._driver.tell(text)
            return text
        percent = max(
            (v.percent for v in state.versions() if v.look == look and state.has_canary(look)), default=0
        )
        now = ""
        # An interrupted command is taken up at the step where it was.
        for step in (step for step in self._steps if step >= percent):
            if step == 100:
                now = self._driver.reach(Promote())
            else:
                now = self._driver.reach_canary(Canary(look, step), keep=False)
            self._watch(look, step)
        return now

    def _watch(self, look: str, percent: int) -> None:
        """Watch a step until it is judged well enough to go on."""
        new, stable = Watch(), Watch()
        began, told, unread = time.monotonic(), 0.0, ""
        self._driver.tell(f"watching {look} at {percent} % for {self._pace.every:.0f} s")
        while True:
            try:
                state = self._driver.read()
                _check_unchanged(state, look, percent)
                unread = self._read(state, look, new, stable)
            except Unavailable as error:
                unread = str(error)
            verdict = judge(new.measured(), stable.measured(), self._limits)
            elapsed = time.monotonic() - began
            match decide(verdict, elapsed, self._pace):
                case "roll back":
                    raise self._driver.take_back(look, f"at {percent} %: {verdict.why}")
                case "go on":
                    self._driver.tell(f"{look} at {percent} % is good: {verdict.why}")
                    return
                case "stop":
                    why = f"{verdict.why}{f', {unread}' if unread else ''}"
                    raise TimedOut(
                        f"not enough to judge {look} at {percent} % by after {elapsed:.0f} s: {why}"
                    )
            if elapsed - told >= self._pace.every:
                self._driver.tell(
                    f"{look} at {percent} %, {elapsed:.0f} s: {verdict.why}{unread and f', {unread}'}"
                )
                told = elapsed
            self._driver.pause(min(READ_SECONDS, self._pace.every / 4))

    def _read(self, state: State, look: str, new: Watch, stable: Watch) -> str:
        """Read every pod's counters; what could not be read, in words."""
        unread = []
        for version in state.versions():
            watch = new if version.look == look else stable
            processes = []
            for pod in version.pods:
                reading = None
                try:
                    reading = parse(self._driver.cluster.metrics(pod))
                except (Unavailable, NotFound, ValueError) as error:
                    unread.append(f"pod {pod['metadata']['name']} cannot be read ({error})")
                except Forbidden as error:
                    raise Refused(f"`auto` needs to read pods' metrics: {error}") from error
                processes.append(Process(pod["metadata"]["uid"], _restarts(pod), reading))
            watch.add(processes)
        return "; ".join(unread)


def _serving(state: State, look: str) -> bool:
    return any(v.look == look and v.role == "stable" for v in state.versions())


def _check_unchanged(state: State, look: str, percent: int) -> None:
    """Refused where another changed what is being watched."""
    step = state.plan(Promote() if percent == 100 else Canary(look, percent))
    if isinstance(step, Change | Refuse) or (percent == 100 and not _serving(state, look)):
        raise Refused(f"changed by someone else: {state.summary()}")


def _restarts(pod: Json) -> int:
    statuses = pod["status"].get("containerStatuses", [])
    return next((int(s["restartCount"]) for s in statuses if s["name"] == CONTAINER), 0)
