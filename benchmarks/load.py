"""The load: a process of its own that sends jobs when they are due, whatever became of the earlier ones.

`python -m benchmarks.load` is a probe that runs a Plan a question. A latency counts from when a request was
due, not from when it could be sent, so a slow server can't hide behind a client that waits.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.client import ERRORS, Client
from benchmarks.dialect import DIALECTS, Dialect
from benchmarks.jobs import Job
from benchmarks.probe import Probe, replies

HEALTH_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs and when each is due, in seconds from the start, ascending."""

    url: str
    dialect: str
    jobs: Sequence[Job]
    due: Sequence[float]
    timeout: float
    sequential: bool = False
    """One after the other instead: each is due when the one before is answered."""
    watch_health: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: seconds from the start when it was due, sent and answered, and 200 or what went wrong."""

    due: float
    sent: float
    done: float
    status: str

    @property
    def latency(self) -> float:
        """Infinite for a request that failed."""
        return self.done - self.due if self.status == "200" else float("inf")


@dataclass(frozen=True, slots=True)
class Replies:
    """What became of a plan: the outcomes in the order of its jobs, and the seconds of each health check,
    infinite for one that failed.
    """

    outcomes: list[Outcome]
    health: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first request that was due to the last reply."""
        return max(each.done for each in self.outcomes) - min(each.due for each in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """What went wrong, once for each request and health check that failed."""
        failed = [each.status for each in self.outcomes if each.status != "200"]
        return failed + ["health check" for seconds in self.health if seconds == float("inf")]


class Load(Probe):
    """The process, from outside; `name` is "load"."""

    def send(self, plan: Plan) -> Replies:
        """Run a plan until every request has its outcome.

        Raises:
            ProcessFailed: the load itself failed.
        """
        reply = self.ask("send", **asdict(plan))
        return Replies([Outcome(**each) for each in reply["outcomes"]], reply["health"])


def run(plan: Plan) -> Replies:
    """Send the plan's requests from this process, those that may overlap each from a thread of its own."""
    dialect = DIALECTS[plan.dialect]
    with Client(plan.url, plan.timeout) as client:
        with suppress(*ERRORS):  # a server that is gone fails the jobs
            client.get(dialect.health)  # the server's first connection
        if plan.sequential:
            return Replies(_in_turn(plan, dialect, client))
    stop = threading.Event()
    with ThreadPoolExecutor(len(plan.jobs) + 1) as threads:
        watch = threads.submit(_watch, plan, dialect, stop) if plan.watch_health else None
        try:
            began = time.perf_counter()
            sent = []
            for job, due in zip(plan.jobs, plan.due, strict=True):
                time.sleep(max(0.0, began + due - time.perf_counter()))
                sent.append(threads.submit(_when_due, plan, dialect, job, due, began))
            outcomes = [each.result() for each in sent]
        finally:
            stop.set()
    return Replies(outcomes, watch.result() if watch is not None else [])


def _in_turn(plan: Plan, dialect: Dialect, client: Client) -> list[Outcome]:
    began = time.perf_counter()
    return [_send(client, dialect, job, time.perf_counter() - began, began) for job in plan.jobs]


def _when_due(plan: Plan, dialect: Dialect, job: Job, due: float, began: float) -> Outcome:
    with Client(plan.url, plan.timeout) as client:
        return _send(client, dialect, job, due, began)


def _send(client: Client, dialect: Dialect, job: Job, due: float, began: float) -> Outcome:
    """The picture is looked at after the clock: reading it is no server's work."""
    sent = time.perf_counter() - began
    try:
        code, body = client.post(dialect.path(job), dialect.body(job))
    except ERRORS as error:
        return Outcome(due, sent, time.perf_counter() - began, type(error).__name__)
    done = time.perf_counter() - began
    status = str(code)
    if status == "200" and not dialect.pixels(json.loads(body)).size:
        status = "empty"
    return Outcome(due, sent, done, status)


def _watch(plan: Plan, dialect: Dialect, stop: threading.Event) -> list[float]:
    """How long each of many health checks took, until it is told to stop; infinite: it failed."""
    seconds: list[float] = []
    with Client(plan.url, plan.timeout) as client:
        while not stop.wait(HEALTH_INTERVAL_S):
            began = time.perf_counter()
            healthy = False
            with suppress(*ERRORS):
                healthy = client.get(dialect.health) == 200
            seconds.append(time.perf_counter() - began if healthy else float("inf"))
    return seconds


def main() -> None:
    """Run plans until stdin ends."""
    reply = replies()
    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line)
        del given["question"]
        jobs = [Job(**job) for job in given.pop("jobs")]
        reply(asdict(run(Plan(jobs=jobs, **given))))


if __name__ == "__main__":
    main()
