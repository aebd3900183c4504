"""Does the steps of a plan until its goal is reached: reads, plans, writes, waits, and says each event once.

What it does next is always planned from what was just read; all that it remembers is whether it wrote.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rollout.cluster import Cluster, State
from rollout.errors import (
    Conflict,
    Interrupted,
    NotFound,
    Refused,
    RolledBack,
    RolloutError,
    TimedOut,
    Unavailable,
)
from rollout.lease import Lease
from rollout.plan import Canary, Change, Done, Goal, Refuse, Rollback, Step, Wait

POLL_SECONDS = 0.5
ROLLBACK_SECONDS = 600.0


class Driver:
    """One command's way to its goals.

    Args:
        cluster: the InferenceService.
        lease: held by this command.
        stop: set when the command is to end.
        tell: gets each event, one line.
        timeout: seconds that one goal may take.
    """

    def __init__(
        self,
        cluster: Cluster,
        lease: Lease,
        stop: threading.Event,
        tell: Callable[[str], None],
        timeout: float,
    ) -> None:
        self.cluster = cluster
        self.tell = tell
        self.changed = False
        """Whether anything was written, or may have been."""
        self._lease = lease
        self._stop = stop
        self._timeout = timeout

    def reach(self, goal: Goal, timeout: float | None = None) -> str:
        """Go on until the goal is reached; what then is, in a sentence."""
        timeout = self._timeout if timeout is None else timeout
        deadline = time.monotonic() + timeout
        told = ""
        while True:
            step = self._next_step(goal)
            if isinstance(step, Change):
                step = self._write(step)
            match step:
                case Done(text):
                    self.tell(text if told else f"nothing to do: {text}")
                    return text
                case Refuse(text):
                    raise Refused(text)
                case Change(text=text) | Wait(text):
                    again = text == told
                    if not again:
                        self.tell(text)
                        told = text
            if time.monotonic() > deadline:
                raise TimedOut(f"not there after {timeout:.0f} s: {text}")
            # A change that is to be made again was undone by someone: not at once, then.
            if again or isinstance(step, Wait):
                self.pause(POLL_SECONDS)

    def take_back(self, look: str, why: RolloutError | str) -> RolledBack:
        """Roll this look back; what to raise then. Refused where there is nothing to go back to."""
        self.tell(f"rolling back {look}: {why}")
        try:
            # A short --timeout is meant for the new look, not for the old one's return.
            now = self.reach(Rollback(only=look), max(self._timeout, ROLLBACK_SECONDS))
        except TimedOut as error:
            if any(version.look == look and version.percent for version in self.read().versions()):
                raise
            now = f"it has no traffic, and `rollback` finishes the rest: {error}"
        return RolledBack(f"rolled back {look}: {why}. Now {now}")

    def reach_canary(self, goal: Canary, keep: bool) -> str:
        """A canary; one that does not get there in time is rolled back.

        Args:
            goal: the look and its share.
            keep: leave a canary that does not get there, to look at it.
        """
        try:
            return self.reach(goal)
        except TimedOut as error:
            if keep or not self.read().has_canary(goal.look):
                raise
            raise self.take_back(goal.look, error) from error

    def read(self) -> State:
        """The state, with the Lease kept; Interrupted where the command is to end."""
        self.keep()
        return self.cluster.read()

    def keep(self) -> None:
        """Keep the Lease, between calls that may be slow; Interrupted where the command is to end."""
        self.pause(0)
        self._lease.renew()

    def pause(self, seconds: float) -> None:
        """Sleep, unless the command is to end."""
        if self._stop.wait(seconds):
            raise Interrupted("interrupted")

    def _next_step(self, goal: Goal) -> Step:
        try:
            return self.read().plan(goal)
        except Unavailable as error:
            return Wait(f"trying again: {error}")

    def _write(self, change: Change) -> Step:
        try:
            self.cluster.write(change)
        except (Conflict, NotFound, Unavailable) as error:
            # Another was first, or nobody knows whether this write arrived: the next reading tells.
            self.changed = self.changed or isinstance(error, Unavailable)
            return Wait(f"reading anew: {error}")
        self.changed = True
        return change
