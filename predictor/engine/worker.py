"""The one thread that computes: every call is timed and watched, and bisected when it fails.

It doesn't know what is computed, nor whose rows these are.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

import torch

from predictor.engine.cost_model import CostModel, Shape
from predictor.engine.memory import MemoryLimit, is_out_of_memory
from predictor.engine.stopwatch import CudaStopwatch, HostStopwatch, Stopwatch
from predictor.engine.threads import ThreadPolicy
from predictor.engine.watchdog import Watchdog

STOP_S = 10.0
"""How long the call under way may take at the end, when nobody waits for what it computes."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class CallKind(StrEnum):
    """What the engine has computed."""

    ENCODE = "encode"
    """Prompts to states."""
    BEGIN = "begin"
    """The first noise."""
    STEP = "step"
    DECODE = "decode"
    """Latents to pictures."""


Observer = Callable[[CallKind, int, float], None]
"""Told of every call that succeeded, on the event loop: its kind, how many rows of requests, seconds."""


@dataclass(frozen=True, slots=True)
class Call(Generic[Item, Result]):
    """One kind of call, over a list of items of one shape; a failed call must have changed none of them.

    `work` gives a result an item, or an exception in place of one. `measure` gives the shape in pixels, and
    how many rows the items are together.
    """

    kind: CallKind
    work: Callable[[Sequence[Item]], Sequence[Result | Exception]]
    measure: Callable[[Sequence[Item]], tuple[Shape, int]]
    costs: CostModel = field(default_factory=CostModel)
    memory: MemoryLimit = field(default_factory=MemoryLimit)

    def load(self, items: Sequence[Item]) -> int:
        """What the memory's limit is counted in: rows times pixels."""
        (height, width), rows = self.measure(items)
        return rows * height * width


@dataclass(frozen=True, slots=True)
class _Made:
    """A call that was made: `rows` as the cost model counts them, `items` as the caller does."""

    kind: CallKind
    costs: CostModel
    shape: Shape
    rows: int
    items: int


class Worker:
    """Calls come one after the other, in the order they were asked for."""

    def __init__(
        self,
        threads: int | None,
        watchdog: Watchdog,
        clock: Callable[[], float],
        observer: Observer,
        *,
        steady: bool = False,
        computes_behind: bool = False,
    ) -> None:
        """threads: torch's CPU threads in the worker; None: as the process has it. All other threads get one.
        steady: the worker always has all of them; else see ThreadPolicy.
        computes_behind: a call may return while the GPU computes it yet.

        OpenMP keeps a pool for each thread that computes in parallel, and as soon as all pools together have
        more threads than there are cores, each of them sleeps at every barrier: steps take two to four times
        as long, for ever, after a solver's table was once made beside the worker.
        """
        self._watchdog = watchdog
        self._clock = clock
        self._observer = observer
        most = threads or torch.get_num_threads()
        self._threads = most
        self._policy = None if steady or computes_behind else ThreadPolicy(most, clock)
        self._stopwatch: Stopwatch[_Made] = CudaStopwatch() if computes_behind else HostStopwatch(clock)
        self._thread = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="diffuser",
            initializer=torch.set_num_threads,
            initargs=(most,),
        )
        self._thread.submit(torch.get_num_threads).result()  # it has its number, and keeps it
        torch.set_num_threads(1)

    @property
    def threads(self) -> int:
        """How many computed the last call."""
        return self._threads

    async def stop(self) -> None:
        """Waits for the call under way, but not for one that hangs."""
        # a daemon, which the end of the process doesn't wait for
        ending = threading.Thread(target=self._thread.shutdown, kwargs={"cancel_futures": True}, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, STOP_S)

    async def compute(self, work: Callable[..., Result], *arguments: object) -> Result:
        """Runs anything between two calls."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._watched, work, *arguments)

    async def each(self, call: Call[Item, Result], items: Sequence[Item]) -> list[Result | Exception]:
        """One result an item; one that fails leaves the others theirs. At once, as far as memory allows.

        Raises what a GPU says that will compute no more.
        """
        loop = asyncio.get_running_loop()
        results, timed = await loop.run_in_executor(self._thread, self._run, call, list(items))
        for made, seconds in timed:  # here, where the costs are also read
            made.costs.observe(made.shape, made.rows, seconds)
            self._observer(made.kind, made.items, seconds)
        return results

    def _watched(self, work: Callable[..., Result], *arguments: object) -> Result:
        with self._watchdog.watch():
            return work(*arguments)

    def _run(
        self, call: Call[Item, Result], items: list[Item]
    ) -> tuple[list[Result | Exception], list[tuple[_Made, float]]]:
        """In parts that fit the memory, a row at least; with the calls that are known to have ended."""
        results: list[Result | Exception] = []
        while items:
            count = len(items)
            while count > 1 and not call.memory.allows(call.load(items[:count])):
                count -= 1
            part = self._attempt(call, items[:count])
            results += part
            items = items[count:]
        return results, self._stopwatch.read()

    def _take_threads(self) -> None:
        wanted = self._policy.threads if self._policy is not None else self._threads
        if wanted != self._threads:
            torch.set_num_threads(wanted)
            self._threads = wanted

    def _attempt(self, call: Call[Item, Result], items: list[Item]) -> list[Result | Exception]:
        shape, rows = call.measure(items)
        known = call.costs.has_seen(shape, rows)
        self._take_threads()
        try:
            with self._watchdog.watch(call.costs.seconds(shape, rows) if known else None):
                began, cpu_began = self._clock(), time.process_time()
                with self._stopwatch.time(_Made(call.kind, call.costs, shape, rows, len(items))):
                    results = list(call.work(items))
                seconds, cpu_seconds = self._clock() - began, time.process_time() - cpu_began
            if self._policy is not None and call.kind is CallKind.STEP:  # the others do much on one thread
                self._policy.observe(self._threads, seconds, cpu_seconds)
            call.memory.went_well(call.load(items))
            return results
        except Exception as error:
            out_of_memory = is_out_of_memory(error)
            if isinstance(error, torch.AcceleratorError) and not out_of_memory:
                raise  # no row's fault: every call would fail from now on
            if len(items) == 1:
                return [error]
        if out_of_memory:  # outside the handler, where the failed call's tensors are gone
            torch.cuda.empty_cache()
            call.memory.ran_out(call.load(items))
        half = len(items) // 2
        return self._attempt(call, items[:half]) + self._attempt(call, items[half:])
