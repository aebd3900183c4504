"""`rollout auto`: a canary in steps, each watched and judged, to promotion or back.

It decides by verdict.py, and moves the traffic as the other commands do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from rollout.cluster import State
from rollout.diagnosis import is_ready
from rollout.driver import Driver
from rollout.errors import Forbidden, Refused, RolloutError, TimedOut, Unavailable
from rollout.inference_service import CONTAINER
from rollout.metrics import Process, Watch, parse
from rollout.plan import Canary, Change, Done, Json, Promote, Refuse
from rollout.verdict import Limits, Pace, Verdict, decide, judge

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
        percent = state.asked_share(look)
        if percent == 100 and isinstance(state.plan(Promote()), Done):
            text = f"nothing to do: {look} has all the traffic"
            self._driver.tell(text)
            return text
        # What cannot be read cannot be judged: it is refused before anything is changed.
        unread = self._read(state, look, Watch(), Watch())
        if unread:
            raise Refused(f"`auto` needs to read pods' metrics: {unread}")
        steps = [step for step in self._steps if step > percent]
        if percent:
            # An interrupted command is taken up at the share where it was.
            steps.insert(0, percent)
        now = ""
        for step in steps:
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
            if unread and verdict.kind == "good":
                # A predictor that hangs counts nothing: what it did before must not let it go on.
                verdict = Verdict("unknown", verdict.why)
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
        """Read every pod's counters; which pods that get requests could not be read, in words."""
        unread = []
        processes: dict[bool, list[Process]] = {True: [], False: []}
        for version in state.versions():
            for pod in version.pods:
                self._driver.keep()
                reading = None
                try:
                    reading = parse(self._driver.cluster.metrics(pod))
                except Forbidden as error:
                    raise Refused(f"`auto` needs to read pods' metrics: {error}") from error
                except (RolloutError, ValueError) as error:
                    if is_ready(pod):
                        unread.append(f"pod {pod['metadata']['name']} cannot be read ({error})")
                process = Process(pod["metadata"]["uid"], _restarts(pod), reading)
                processes[version.look == look].append(process)
        new.add(processes[True])
        stable.add(processes[False])
        return "; ".join(unread)


def _check_unchanged(state: State, look: str, percent: int) -> None:
    """Refused where another changed what is being watched."""
    step = state.plan(Promote() if percent == 100 else Canary(look, percent))
    if isinstance(step, Change | Refuse) or (percent == 100 and state.asked_share(look) != 100):
        raise Refused(f"changed by someone else: {state.summary()}")


def _restarts(pod: Json) -> int:
    statuses = pod["status"].get("containerStatuses", [])
    return next((int(s["restartCount"]) for s in statuses if s["name"] == CONTAINER), 0)
