"""Step-level batching: before every denoising step waiting rows are admitted, after it finished ones are
released.

It doesn't know how a step is computed (the diffuser does), what a LoRA is, or any wire format.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

from predictor.diffuser import Diffuser
from predictor.errors import DeadlineExceeded, InvalidInput, NotReady, QueueFull, ServingError, UnknownModel
from predictor.queue import Request, RowQueue, Ticket
from predictor.row import Row
from predictor.sample import Sample
from predictor.terms import Terms

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")

STEP_MEMORY = 0.9  # weight of the past in the running mean of step times


@dataclass(eq=False, slots=True)
class _Active:
    ticket: Ticket
    sample: Sample

    @property
    def size(self) -> tuple[int, int]:
        return self.sample.row.height, self.sample.row.width


class Engine:
    """Drives one diffuser from the event loop; everything that computes runs in one worker thread, in turn.

    All state belongs to the event loop that called `start`, and so do all methods.
    """

    def __init__(
        self, diffuser: Diffuser, *, max_batch_size: int, max_queue_rows: int, threads: int | None = None
    ) -> None:
        """At most `max_batch_size` rows are denoised at a time, at most `max_queue_rows` wait.

        threads: torch's CPU threads in the worker; None: as the process has it.
        """
        self._diffuser = diffuser
        self._max_batch_size = max_batch_size
        self._queue = RowQueue(max_queue_rows)
        self._active: list[_Active] = []
        self._requests: set[Request] = set()
        self._leaving: set[str] = set()  # adapters that take no new rows
        self._worker = ThreadPoolExecutor(
            max_workers=1,
            thread_name_prefix="diffuser",
            initializer=torch.set_num_threads,
            initargs=(threads or torch.get_num_threads(),),
        )
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._stopping = False
        self._idle = False
        self._beat = time.monotonic()
        self._step_seconds = 0.0
        self._rows_per_call = max_batch_size  # less once the device's memory has run out

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
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)

    async def draw(self, rows: Sequence[Row], terms: Terms = Terms()) -> np.ndarray:  # noqa: B008 - frozen
        """Draws rows of one size: uint8 [N, height, width, 3], RGB, in the order given.

        Cancelling the awaiting task frees its rows at the next step. Raises InvalidInput, UnknownModel,
        QueueFull, NotReady, DeadlineExceeded after the terms' timeout, or a plain ServingError if the
        computation of one of the rows failed.
        """
        try:
            async with asyncio.timeout(terms.timeout) as limit:
                return await self._draw(rows, terms)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineExceeded(f"not done within {terms.timeout:g} s") from None

    async def _draw(self, rows: Sequence[Row], terms: Terms) -> np.ndarray:
        if not self.accepting:
            raise NotReady("the engine is not running")
        self._check(rows)
        if not self._diffuser.is_prepared(rows):  # beside the worker thread, so that nobody's steps wait
            await asyncio.to_thread(self._diffuser.prepare, rows)
            if not self.accepting:
                raise NotReady("the engine is not running")
            self._check(rows)  # a LoRA may have left meanwhile
        request = Request(tuple(rows), asyncio.get_running_loop().create_future())
        if not self._queue.push(request):
            raise QueueFull(self._backlog_seconds())
        self._requests.add(request)
        self._wake.set()
        try:
            return await request.reply
        finally:
            self._requests.discard(request)
            self._queue.discard(request)

    async def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Checks a LoRA in canonical layout beside the worker thread and adds it between two steps.

        Raises weights.errors.IncompatibleLora, or ValueError if there is one of that name: versions don't
        change.
        """
        prepared = await asyncio.to_thread(self._diffuser.prepare_adapter, name, tensors)
        await self._compute(self._diffuser.add_prepared, prepared)

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
            await self._compute(self._diffuser.remove_adapter, name)
        finally:
            self._leaving.discard(name)

    @property
    def queue_depth(self) -> int:
        """Rows waiting for a place in the batch."""
        return len(self._queue)

    @property
    def active_rows(self) -> int:
        """Rows being denoised."""
        return len(self._active)

    @property
    def last_step_at(self) -> float:
        """The heartbeat, in time.monotonic(): now while idle, else when the computation under way began."""
        return time.monotonic() if self._idle else self._beat

    @property
    def accepting(self) -> bool:
        """Whether `draw` takes rows: started, not stopping, not crashed."""
        return self._loop_task is not None and not self._loop_task.done() and not self._stopping

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

    async def _run(self) -> None:
        try:
            while not (self._stopping and not self._active and not len(self._queue)):
                self._wake.clear()
                self._drop_ended()
                await self._admit()
                if self._active:
                    await self._step()
                elif not len(self._queue):
                    self._idle = True
                    await self._wake.wait()
                    self._idle = False
        except Exception:
            logger.exception("the engine stopped: a defect")
            raise
        finally:
            self._idle = False
            for request in self._requests:
                request.fail(NotReady("the server is stopping"))
            self._active.clear()

    def _drop_ended(self) -> None:
        """Frees the rows of requests that were cancelled or have failed."""
        self._active = [active for active in self._active if not active.ticket.request.reply.done()]

    async def _admit(self) -> None:
        room = self._max_batch_size - len(self._active)
        tickets = [ticket for ticket in self._queue.take(room) if not ticket.request.reply.done()]
        if not tickets:
            return
        samples = await self._isolated(self._diffuser.begin, [ticket.row for ticket in tickets])
        for ticket, sample in zip(tickets, samples, strict=True):
            if isinstance(sample, Exception):
                ticket.request.fail(_answer(sample))
            else:
                self._active.append(_Active(ticket, sample))
        self._drop_ended()

    async def _step(self) -> None:
        """Steps the rows of the size whose turn it is, and delivers those that are finished."""
        size = self._active[0].size
        turn = [active for active in self._active if active.size == size][: self._rows_per_call]
        began = time.monotonic()
        samples = await self._isolated(self._diffuser.step, [active.sample for active in turn])
        seconds = time.monotonic() - began
        past = self._step_seconds or seconds
        self._step_seconds = STEP_MEMORY * past + (1 - STEP_MEMORY) * seconds
        finished, unfinished = [], []
        for active, sample in zip(turn, samples, strict=True):
            if isinstance(sample, Exception):
                active.ticket.request.fail(_answer(sample))
            elif sample.finished:
                finished.append(active)
            else:
                unfinished.append(active)
        self._active = [active for active in self._active if active not in turn] + unfinished
        wanted = [active for active in finished if not active.ticket.request.reply.done()]
        if wanted:
            pictures = await self._isolated(self._diffuser.decode, [active.sample for active in wanted])
            for active, picture in zip(wanted, pictures, strict=True):
                if isinstance(picture, Exception):
                    active.ticket.request.fail(_answer(picture))
                else:
                    active.ticket.request.deliver(active.ticket.index, picture)

    async def _isolated(
        self, work: Callable[[list[Item]], list[Result]], items: list[Item]
    ) -> list[Result | Exception]:
        """Runs `work` over all items in the worker thread; one that fails there leaves the others their
        results.
        """
        self._beat = time.monotonic()
        return await self._compute(self._attempt, work, items)

    def _attempt(
        self, work: Callable[[list[Item]], list[Result]], items: list[Item]
    ) -> list[Result | Exception]:
        try:
            return list(work(items))
        except Exception as error:
            if len(items) == 1:
                return [error]
            out_of_memory = isinstance(error, torch.OutOfMemoryError)
        if out_of_memory:  # outside the handler, where the failed call's tensors are gone
            torch.cuda.empty_cache()
            self._rows_per_call = max(1, len(items) // 2)
        half = len(items) // 2
        return self._attempt(work, items[:half]) + self._attempt(work, items[half:])

    async def _compute(self, work: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    def _backlog_seconds(self) -> float:
        """How long the rows here will take, by the mean time of a step."""
        calls = self._queue.calls() + sum(
            active.sample.table.calls - active.sample.call for active in self._active
        )
        return calls * self._step_seconds / self._max_batch_size


def _answer(error: Exception) -> ServingError:
    """What the caller may know of a failure in the computation; the rest goes to the log."""
    if isinstance(error, ServingError):
        return error
    logger.error("a row could not be drawn", exc_info=error)
    if isinstance(error, torch.OutOfMemoryError):
        return ServingError("the device has not enough memory for a picture of this size")
    return ServingError("the picture could not be drawn")
