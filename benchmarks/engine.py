"""A probe of the predictor's engine in process, without a server: what it can do, and what serving adds.

`python -m benchmarks.engine` with the peers' environment variables. It doesn't know HTTP.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.jobs import Job
from benchmarks.peers.settings import Settings
from benchmarks.probe import replies
from benchmarks.steps import draft, load_loras
from predictor.allocator import keep_freed_memory
from predictor.diffusion.checkpoint import read_checkpoint
from predictor.diffusion.diffuser import DTYPES, Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample
from predictor.engine.engine import Engine

LAG_INTERVAL_S = 0.005
QUEUE_ROWS = 100_000  # a benchmark wants every picture


class RecordingDiffuser(Diffuser):
    """Notes when each step began and ended, with which seeds, and how many rows its UNet calls had."""

    def __init__(self, settings: Settings) -> None:
        checkpoint = read_checkpoint(settings.base, DTYPES[settings.dtype])
        super().__init__(checkpoint, settings.device)
        self.steps: list[tuple[float, float, frozenset[int]]] = []
        self.rows_needed = 0
        self.rows_computed = 0
        checkpoint.unet.register_forward_pre_hook(self._count)

    def step(self, samples: Sequence[Sample]) -> list[Sample | ArithmeticError]:
        """One step, noted."""
        began = time.perf_counter()
        stepped = super().step(samples)
        self.steps.append((began, time.perf_counter(), frozenset(sample.row.seed for sample in samples)))
        self.rows_needed += sum(2 if sample.row.guidance > 1 else 1 for sample in samples)
        return stepped

    def forget(self) -> None:
        """Begin the notes anew."""
        self.steps.clear()
        self.rows_needed = self.rows_computed = 0

    def _count(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self.rows_computed += len(inputs[0])


class Probe:
    """An engine that runs in the event loop of the caller."""

    def __init__(self, settings: Settings) -> None:
        keep_freed_memory()  # as the server
        torch.set_num_threads(1)  # as the server: the thread that loads is not the one that computes
        self._diffuser = RecordingDiffuser(settings)
        load_loras(self._diffuser, settings.loras)
        self._engine = Engine(
            self._diffuser,
            max_batch_size=settings.max_batch_size,
            max_queue_rows=QUEUE_ROWS,
            threads=settings.threads,
        )

    def start(self) -> None:
        """Call it from the loop."""
        self._engine.start()

    async def latency(self, jobs: Sequence[Job]) -> list[float]:
        """Seconds of each job, one after the other."""
        seconds = []
        for job in jobs:
            began = time.perf_counter()
            await self._engine.draw([self._row(job)])
            seconds.append(time.perf_counter() - began)
        return seconds

    async def burst(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """All jobs at once: the seconds until the last is drawn, the UNet's rows, and how late the event loop
        was meanwhile, in seconds, each time it was to be woken.
        """
        self._diffuser.forget()
        watch = asyncio.create_task(self._lag())
        began = time.perf_counter()
        await asyncio.gather(*(self._engine.draw([self._row(job)]) for job in jobs))
        seconds = time.perf_counter() - began
        watch.cancel()
        needed, computed = self._diffuser.rows_needed, self._diffuser.rows_computed
        return {"seconds": seconds, "rows_needed": needed, "rows_computed": computed, "lag": await watch}

    async def join(self, long: Sequence[Job], short: Sequence[Job], gaps: Sequence[float]) -> list[float]:
        """How long each short job waited for its first step, in steps, while the long ones were drawn.

        Args:
            long: fewer than a batch holds, one at least with more steps than all this takes.
            short: each comes a gap after the one before has ended.
            gaps: in steps of a batch of the long ones.
        """
        self._diffuser.forget()
        tasks = [asyncio.create_task(self._engine.draw([self._row(job)])) for job in long]
        while len(self._diffuser.steps) < 4:  # the steps are in another thread
            await asyncio.sleep(0.001)
            for task in tasks:
                if task.done():
                    raise RuntimeError("a long job ended at once") from task.exception()
        one_step = float(np.median([ended - began for began, ended, _ in self._diffuser.steps[1:]]))
        waits = []
        for job, gap in zip(short, gaps, strict=True):
            await asyncio.sleep(gap * one_step)
            if all(task.done() for task in tasks):
                break
            asked = time.perf_counter()
            await self._engine.draw([self._row(job)])
            steps = list(self._diffuser.steps)
            first = next(place for place, step in enumerate(steps) if job.seed in step[2])
            # The step under way when it came is what a wait of one step means.
            running = [ended - began for began, ended, _ in steps[:first] if ended > asked]
            waits.append((steps[first][0] - asked) / (running[0] if running else one_step))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return waits

    async def _lag(self) -> list[float]:
        late: list[float] = []
        try:
            while True:
                due = time.perf_counter() + LAG_INTERVAL_S
                await asyncio.sleep(LAG_INTERVAL_S)
                late.append(time.perf_counter() - due)
        except asyncio.CancelledError:
            return late

    def _row(self, job: Job) -> Row:
        return draft(self._diffuser, job.prompt, job.seed, job.steps, job.guidance, job.lora)


async def answer() -> None:
    """Answer questions until stdin ends."""
    reply = replies()
    probe = Probe(Settings.from_environment())
    probe.start()
    while line := await asyncio.to_thread(sys.stdin.readline):
        given = json.loads(line)
        question = getattr(probe, given.pop("question"))
        for name in given.keys() & {"jobs", "long", "short"}:
            given[name] = [Job(**job) for job in given[name]]
        reply(await question(**given))


if __name__ == "__main__":
    asyncio.run(answer())
