"""Step-level batching: before every denoising step waiting rows are admitted, after it finished ones are
released.

The way in and out of the batch: accepting, waiting, timing out, stopping. It doesn't know how a batch is
drawn, what a LoRA is, or any wire format.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.engine.admission import BatchLimits, Costs
from predictor.engine.batch import Batch
from predictor.engine.course import Course
from predictor.engine.queue import RowQueue
from predictor.engine.request import Request, Ticket
from predictor.engine.terms import Terms
from predictor.engine.watchdog import Watchdog
from predictor.engine.worker import Observer, Worker
from predictor.errors import DeadlineExceeded, InvalidInput, NotReady, QueueFull, UnknownModel

logger = logging.getLogger(__name__)


class Engine:
    """Drives one diffuser from the event loop; everything that computes runs in one worker thread, in turn.

    All state belongs to the event loop that called `start`, and so do all methods.
    """

    def __init__(
        self,
        diffuser: Diffuser,
        *,
        max_batch_size: int,
        max_queue_rows: int,
        max_latency: float = math.inf,
        max_queue_seconds: float = math.inf,
        tenant_weights: Mapping[str, float] | None = None,
        hang_timeout: float = 120.0,
        threads: int | None = None,
        steady_threads: bool = False,
        clock: Callable[[], float] = time.monotonic,
        observer: Observer = lambda kind, rows, seconds: None,
    ) -> None:
        """At most `max_batch_size` rows are denoised at a time; at most `max_queue_rows` of them, and rows of
        `max_queue_seconds` of estimated work, wait. Times in seconds.

        max_latency: see BatchLimits. tenant_weights: shares of the server's time, 1 where not named.
        hang_timeout: how long a call may take that has no forerunner to tell, and any call at most.
        threads: torch's CPU threads in the worker; None: as the process has it. They are fewer while other
        programs want the cores, unless `steady_threads`: rounding depends on their number.
        """
        self.clock = clock
        self._diffuser = diffuser
        self._watchdog = Watchdog(clock, hang_timeout)
        self._worker = Worker(
            threads,
            self._watchdog,
            clock,
            observer,
            steady=steady_threads,
            computes_behind=diffuser.computes_behind,
        )
        self._batch = Batch(diffuser, self._worker, BatchLimits(max_batch_size, max_latency), clock)
        self._queue = RowQueue(
            max_queue_rows,
            max_seconds=max_queue_seconds,
            seconds=self._batch.row_seconds,
            weights=tenant_weights,
        )
        # one, and apart: tables are Python's work, and would fill the threads that replies and looks go by
        self._tables = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._requests: set[Request] = set()
        self._leaving: set[str] = set()  # adapters that take no new rows
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begins to admit rows. Call it once, from the running event loop that will call `draw`."""
        self._loop_task = asyncio.get_running_loop().create_task(self._run(), name="engine")

    async def stop(self, drain_s: float) -> None:
        """Refuses new rows, gives accepted ones `drain_s` seconds to end, fails the rest with NotReady."""
        self._stopping = True
        self._wake.set()
        if self._loop_task is not None:
            await asyncio.wait([self._loop_task], timeout=drain_s)
            self._loop_task.cancel()
            await asyncio.wait([self._loop_task])
        self._tables.shutdown(wait=False)
        await self._worker.stop()

    async def draw(
        self,
        rows: Sequence[Row],
        terms: Terms = Terms(),  # noqa: B008 - frozen
        courses: Sequence[Course] = (),
    ) -> np.ndarray:
        """Draws rows of one size: uint8 [N, height, width, 3], RGB, in the order given.

        Each of `courses`, if there are any, is told what becomes of its row while it happens.

        Cancelling the awaiting task frees its rows at the next step. Raises InvalidInput, UnknownModel,
        QueueFull, NotReady, DeadlineExceeded after the terms' timeout, or before where it can't be kept, or
        a plain ServingError if the computation of one of the rows failed.
        """
        arrived = self.clock()
        for course in courses:
            course.arrived = arrived
        try:
            async with asyncio.timeout(terms.timeout) as limit:
                return await self._draw(rows, terms, arrived, tuple(courses))
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"not done within {terms.timeout:g} s") from None

    async def _draw(
        self, rows: Sequence[Row], terms: Terms, arrived: float, courses: tuple[Course, ...]
    ) -> np.ndarray:
        self._refuse_unless_accepting()
        self._check(rows)
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[np.ndarray] = loop.create_future()
        request = Request(tuple(rows), terms, arrived, reply, courses)
        new = [index for index, row in enumerate(rows) if not self._diffuser.is_prepared([row])]
        if new:
            tickets = [Ticket(request, index) for index in new]
            if self._queue.make_room(tickets) is None:
                raise self._full(tickets)  # before anything is computed for it
            await loop.run_in_executor(self._tables, self._diffuser.prepare, rows)  # nobody's steps wait
            self._refuse_unless_accepting()
            self._check(rows)  # a LoRA may have left meanwhile
        self._requests.add(request)
        try:
            self._enqueue(request)
            self._wake.set()
            return await request.reply
        finally:
            request.reply.cancel()  # nobody waits for it any more
            self._requests.discard(request)
            self._queue.discard(request)

    async def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Checks a LoRA in canonical layout beside the worker thread and adds it between two steps.

        Raises weights.errors.IncompatibleLora, or ValueError if there is one of that name: versions don't
        change.
        """
        prepared = await asyncio.to_thread(self._diffuser.prepare_adapter, name, tensors)
        await self._worker.compute(self._diffuser.add_prepared, prepared)

    async def remove_adapter(self, name: str) -> None:
        """Refuses new rows with this LoRA and drops it once accepted ones have ended. Raises UnknownModel."""
        if name not in self._diffuser.adapters:
            raise UnknownModel(f"LoRA {name} is not loaded")
        self._leaving.add(name)
        try:
            using = [
                request for request in self._requests if any(name in dict(row.loras) for row in request.rows)
            ]
            if using:
                await asyncio.wait([request.reply for request in using])
            await self._worker.compute(self._diffuser.remove_adapter, name)
        finally:
            self._leaving.discard(name)

    @property
    def queue_depth(self) -> int:
        """Rows waiting for a place in the batch."""
        return len(self._queue)

    @property
    def queue_age(self) -> float:
        """Seconds the longest waiting of them has waited."""
        return max(0.0, self.clock() - self._queue.oldest)

    @property
    def queue_seconds(self) -> float:
        """How long they will take, by the costs learned so far."""
        return self._queue.seconds

    @property
    def threads(self) -> int:
        """How many CPU threads computed the last call."""
        return self._worker.threads

    @property
    def active_rows(self) -> int:
        """Rows being denoised."""
        return self._batch.active

    @property
    def costs(self) -> Costs:
        """What has been learned of the time that calls take."""
        return self._batch.costs

    @property
    def alive(self) -> bool:
        """False where only a restart helps: a computation hangs, or the engine has crashed."""
        task = self._loop_task
        crashed = task is not None and task.done() and not task.cancelled() and task.exception() is not None
        return not crashed and not self._watchdog.hung

    @property
    def accepting(self) -> bool:
        """Whether `draw` takes rows: started, not stopping, not crashed."""
        return self._loop_task is not None and not self._loop_task.done() and not self._stopping

    def _refuse_unless_accepting(self) -> None:
        if not self.accepting:
            raise NotReady("the engine is not running")

    def _check(self, rows: Sequence[Row]) -> None:
        if not 1 <= len(rows) <= self._queue.max_rows:
            raise InvalidInput("prompt", f"from 1 to {self._queue.max_rows} rows")
        if len({(row.height, row.width) for row in rows}) > 1:
            raise InvalidInput("height", "one size for all rows of a request")
        for row in rows:
            self._diffuser.check(row)
            for name, _ in row.loras:
                if name in self._leaving:
                    raise UnknownModel(f"LoRA {name} is being removed")

    def _enqueue(self, request: Request) -> None:
        """Lets rows wait; those that are being drawn already, with whoever asked for them first."""
        tickets = [Ticket(request, index) for index in range(len(request.rows))]
        new = [ticket for ticket in tickets if not self._batch.share(ticket)]
        if not new:
            return
        given_up = self._queue.make_room(new)
        if given_up is None:
            raise self._full(new)
        for other in given_up:
            other.fail(self._full(new))
            self._queue.discard(other)
        self._queue.push(new)

    def _full(self, tickets: Sequence[Ticket]) -> QueueFull:
        """Worth another try once the rows under way, and those that have to leave the queue, are done."""
        return QueueFull(self._batch.seconds + self._queue.seconds_until_room(tickets))

    async def _run(self) -> None:
        try:
            while not self._stopping or len(self._batch) or len(self._queue):
                self._wake.clear()
                self._batch.drop_unwanted()
                await self._batch.admit(self._queue)
                await self._batch.step()
                await self._batch.decode()
                if not (self._stopping or len(self._batch) or len(self._queue)):
                    await self._wake.wait()
        except Exception:
            logger.exception("the engine stopped: a defect, or a device that computes no more")
            raise
        finally:
            for request in self._requests:
                request.fail(NotReady("the server is stopping"))
            self._batch.clear()
