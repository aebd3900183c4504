"""The load: a process of its own that sends jobs when they are due, whatever became of the earlier ones.

`python -m benchmarks.load` is a probe that runs a Plan a question. A latency counts from when a request was
due, not from when it could be sent, so a slow server can't hide behind a client that waits.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

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
    """What became of a plan: the outcomes in the order of its jobs, and the seconds of each health check."""

    outcomes: list[Outcome]
    health: list[float] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """From the first request that was due to the last reply."""
        return max(each.done for each in self.outcomes) - min(each.due for each in self.outcomes)

    @property
    def failures(self) -> list[str]:
        """What went wrong, once for each request that failed."""
        return [each.status for each in self.outcomes if each.status != "200"]


class Load(Probe):
    """The process, from outside; `name` is "load"."""

    def send(self, plan: Plan) -> Replies:
        """Run a plan until every request has its outcome.

        Raises:
            ProcessFailed: the load itself failed.
        """
        reply = self.ask("send", **asdict(plan))
        return Replies([Outcome(**each) for each in reply["outcomes"]], reply["health"])


async def run(plan: Plan) -> Replies:
    """Send the plan's requests from this process."""
    dialect = DIALECTS[plan.dialect]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=plan.url, timeout=plan.timeout, limits=limits) as client:
        await client.get(dialect.health)  # imports, first connection
        watch = asyncio.create_task(_watch(client, dialect.health)) if plan.watch_health else None
        began = time.perf_counter()
        if plan.sequential:
            outcomes = []
            for job in plan.jobs:
                outcomes.append(await _send(client, dialect, job, time.perf_counter() - began, began))
        else:
            tasks = []
            async with asyncio.TaskGroup() as group:
                for job, due in zip(plan.jobs, plan.due, strict=True):
                    await asyncio.sleep(began + due - time.perf_counter())
                    tasks.append(group.create_task(_send(client, dialect, job, due, began)))
            outcomes = [task.result() for task in tasks]
        health: list[float] = []
        if watch is not None:
            watch.cancel()
            health = await watch
    return Replies(outcomes, health)


async def _send(client: httpx.AsyncClient, dialect: Dialect, job: Job, due: float, began: float) -> Outcome:
    sent = time.perf_counter() - began
    try:
        reply = await client.post(dialect.path(job), json=dialect.body(job))
        status = str(reply.status_code)
        if status == "200" and not dialect.pixels(reply.json()).size:
            status = "empty"
    except httpx.HTTPError as error:
        status = type(error).__name__
    return Outcome(due, sent, time.perf_counter() - began, status)


async def _watch(client: httpx.AsyncClient, path: str) -> list[float]:
    """How long each of many health checks took, until cancelled."""
    seconds: list[float] = []
    try:
        while True:
            began = time.perf_counter()
            (await client.get(path)).raise_for_status()
            seconds.append(time.perf_counter() - began)
            await asyncio.sleep(HEALTH_INTERVAL_S)
    except asyncio.CancelledError:
        return seconds


def main() -> None:
    """Run plans until stdin ends."""
    reply = replies()
    for line in sys.stdin:
        given: dict[str, Any] = json.loads(line)
        del given["question"]
        jobs = [Job(**job) for job in given.pop("jobs")]
        reply(asdict(asyncio.run(run(Plan(jobs=jobs, **given)))))


if __name__ == "__main__":
    main()
