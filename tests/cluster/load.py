"""A load of requests with exact accounts: each that is sent has one outcome, and only a whole picture is a
success. Nothing is sent twice.
"""

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from tests.cluster.pictures import FAILURES, Ingress, Question, Reply

DRAIN_S = 400.0
"""How long the last replies may take after the load has stopped; a request's own limit is shorter."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request. Times in seconds, `sent` from the start of the load."""

    question: Question
    sent: float
    took: float
    reply: Reply | None
    failure: str = ""


class Load:
    """Requests in the background, in a `with` block: it ends when every one that was sent has its outcome.

    Args:
        rate: requests a second, sent at even times whether the earlier ones are answered or not.
        at_once: instead of a rate: so many requests are always under way.
    """

    def __init__(
        self,
        ingress: Ingress,
        questions: Sequence[Question],
        rate: float | None = None,
        *,
        at_once: int = 0,
    ) -> None:
        self._ingress = ingress
        self._questions = itertools.cycle(questions)
        self._rate = rate
        self._at_once = at_once
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._began = 0.0
        self.sent = 0
        self.outcomes: list[Outcome] = []

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(DRAIN_S)
        assert not self._thread.is_alive(), "requests are still without an outcome"
        assert self.sent == len(self.outcomes)

    @property
    def clock(self) -> float:
        """Seconds since the load began."""
        return time.monotonic() - self._began

    async def _run(self) -> None:
        async with self._ingress.http() as client, asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._one_after_another(client))
            for number in itertools.count(1):
                if not self._rate or self._stop.is_set():
                    break
                group.create_task(self._one(client))
                due = self._began + number / self._rate
                await asyncio.to_thread(self._stop.wait, max(0.0, due - time.monotonic()))

    async def _one_after_another(self, client: httpx.AsyncClient) -> None:
        while not self._stop.is_set():
            await self._one(client)

    async def _one(self, client: httpx.AsyncClient) -> None:
        self.sent += 1
        self.outcomes.append(await outcome(self._ingress, client, next(self._questions), self._began))


def burst(ingress: Ingress, questions: Sequence[Question], count: int, at_once: int) -> list[Outcome]:
    """`count` requests, always `at_once` of them under way; returns when all are answered."""

    async def run() -> list[Outcome]:
        outcomes: list[Outcome] = []
        queue = iter(list(itertools.islice(itertools.cycle(questions), count)))
        began = time.monotonic()

        async def work() -> None:
            for question in queue:
                outcomes.append(await outcome(ingress, client, question, began))

        async with ingress.http() as client, asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(work())
        return outcomes

    outcomes = asyncio.run(run())
    assert len(outcomes) == count
    return outcomes


async def outcome(ingress: Ingress, client: httpx.AsyncClient, question: Question, began: float) -> Outcome:
    """Send one request and wait for what becomes of it."""
    sent = time.monotonic()
    try:
        reply, failure = await ingress.v2(client, question), ""
        assert reply.pixels.size
        assert reply.seed == question.seed
    except FAILURES as error:
        reply, failure = None, f"{type(error).__name__}: {error}"
    return Outcome(question, sent - began, time.monotonic() - sent, reply, failure)


def failed(outcomes: Sequence[Outcome]) -> list[str]:
    """Every failure, in plain words."""
    return [f"{o.failure} (sent at {o.sent:.1f} s, took {o.took:.1f} s)" for o in outcomes if o.reply is None]


def by_lora(outcomes: Sequence[Outcome]) -> Counter[str]:
    """How many pictures each version drew."""
    return Counter(o.reply.lora for o in outcomes if o.reply is not None)


def quantile(outcomes: Sequence[Outcome], share: float) -> float:
    """The time in seconds within which this share of the requests was answered."""
    times = sorted(o.took for o in outcomes)
    return times[min(len(times) - 1, int(share * len(times)))]
