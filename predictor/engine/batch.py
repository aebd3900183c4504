"""The rows being drawn: they join from the queue, take their steps together, and leave as pictures.

Steps, prompts and pictures are batched apart from each other. Whose turn it is says the queue, whether a row
joins says admission; it doesn't know requests' ways in, nor how anything is computed (the diffuser does).
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample
from predictor.engine.admission import BatchLimits, Costs, Verdict, judge, row_seconds
from predictor.engine.cost_model import Shape
from predictor.engine.job import Job, place, unet_rows
from predictor.engine.memory import is_out_of_memory
from predictor.engine.queue import RowQueue
from predictor.engine.request import Ticket
from predictor.engine.worker import Call, CallKind, Worker
from predictor.errors import DeadlineExceeded, ServingError

logger = logging.getLogger(__name__)

ENCODED_AT_ONCE = 16
"""Rows whose prompts are encoded together: those that begin, and some that wait."""


DOUBT_AFTER_S = 10.0
"""Without a step of its size for so long, what steps cost is no longer reason enough to refuse a row."""


class Batch:
    """Computes in the worker; its state belongs to the event loop, and one task drives it."""

    def __init__(
        self, diffuser: Diffuser, worker: Worker, limits: BatchLimits, clock: Callable[[], float]
    ) -> None:
        """`clock` gives seconds, and is that of the requests' arrival."""
        self._diffuser = diffuser
        self._worker = worker
        self._limits = limits
        self._clock = clock
        self._encode: Call[Row, None] = Call(
            CallKind.ENCODE, diffuser.encode, lambda rows: ((1, 1), len(rows))
        )
        self._begin: Call[Row, Sample] = Call(
            CallKind.BEGIN, diffuser.begin, lambda rows: (_shape(rows[0]), len(rows))
        )
        self._step: Call[Sample, Sample] = Call(CallKind.STEP, diffuser.step, _step_size)
        self._decode: Call[Sample, np.ndarray] = Call(CallKind.DECODE, diffuser.decode, _decode_size)
        # The same for approximated rows, whose price is another.
        self._outer_step: Call[Sample, Sample] = Call(CallKind.STEP, diffuser.step, _step_size)
        self._tiny_decode: Call[Sample, np.ndarray] = Call(CallKind.DECODE, diffuser.decode, _decode_size)
        self.costs = Costs(self._step.costs, self._decode.costs, self._outer_step.costs)
        self._jobs: dict[Row, Job] = {}  # all of them, from the moment they leave the queue
        self._active: list[Job] = []  # those to be stepped, the size whose turn it is in front
        self._finished: list[Job] = []  # those to be decoded
        self._stepped: dict[Shape, float] = {}  # when a size was stepped last

    def __len__(self) -> int:
        """Rows that are under way in any way."""
        return len(self._jobs)

    @property
    def active(self) -> int:
        """Rows being denoised."""
        return len(self._active)

    @property
    def seconds(self) -> float:
        """How long the rows here will take yet."""
        return sum(row_seconds(job.place, self.costs, self._limits.max_batch_size) for job in self._active)

    def row_seconds(self, row: Row) -> float:
        """How long a row will take, its share of the batch counted."""
        alone = place(row, row.steps, 0.0, math.inf)
        return row_seconds(alone, self.costs, self._limits.max_batch_size)

    def share(self, ticket: Ticket) -> bool:
        """Lets a ticket wait with whoever has the same row drawn already; False where nobody has."""
        job = self._jobs.get(ticket.row)
        if job is not None:
            job.join(ticket, self._clock())
        return job is not None

    def drop_unwanted(self) -> None:
        """Frees the places of rows that nobody waits for any more."""
        self._jobs = {row: job for row, job in self._jobs.items() if job.wanted}
        self._active = [job for job in self._active if job.wanted]
        self._finished = [job for job in self._finished if job.wanted]

    async def admit(self, queue: RowQueue) -> None:
        """Takes rows out of the queue as long as they may join, and begins them."""
        if (row := self._doubtful(queue)) is not None:
            await self._try_out(row, queue)
        joined = self._choose(queue)
        if not joined:
            return
        new = [job.tickets[0] for job in joined if not self._diffuser.is_encoded(job.row)]
        if new:  # with those of rows that wait: they will be wanted soon, and one call costs less than two
            ahead = (ticket for ticket in queue if not self._diffuser.is_encoded(ticket.row))
            new += islice(ahead, max(0, ENCODED_AT_ONCE - len(new)))
            for ticket in {_prompts(ticket.row): ticket for ticket in reversed(new)}.values():
                ticket.course.encoded = True
            await self._worker.each(self._encode, [ticket.row for ticket in new])
        samples = await self._worker.each(self._begin, [job.row for job in joined])
        now = self._clock()
        for job, sample in zip(joined, samples, strict=True):
            if isinstance(sample, Exception):
                self._end(job, sample)
            else:
                job.begin(sample, now)
                self._active.append(job)
        self.drop_unwanted()

    async def step(self) -> None:
        """One step for the rows of the size whose turn it is: a call of the whole UNet, and one of its outer
        layers alone for rows that need no more.
        """
        if not self._active:
            return
        shape = _shape(self._active[0].row)
        whole = [job for job in self._active if _shape(job.row) == shape and not job.begun.outer_only]
        outer = [job for job in self._active if _shape(job.row) == shape and job.begun.outer_only]
        samples: list[Sample | Exception] = []
        for call, jobs in ((self._step, whole), (self._outer_step, outer)):
            if jobs:
                stepped = await self._worker.each(call, [job.begun for job in jobs])
                samples += stepped
        now = self._stepped[shape] = self._clock()
        turn = whole + outer
        self._active = [job for job in self._active if job not in turn]
        for job, sample in zip(turn, samples, strict=True):
            if isinstance(sample, Exception):
                self._end(job, sample)
                continue
            job.step(len(turn), now)
            (self._finished if sample.finished else self._active).append(job)

    async def decode(self) -> None:
        """Delivers the pictures of rows that have taken their last step."""
        self.drop_unwanted()
        done, self._finished = self._finished, []
        for call, tiny in ((self._decode, False), (self._tiny_decode, True)):
            if jobs := [job for job in done if job.row.tiny_vae == tiny]:
                pictures = await self._worker.each(call, [job.begun for job in jobs])
                for job, picture in zip(jobs, pictures, strict=True):
                    self._end(job, picture)

    def clear(self) -> None:
        """Forgets all rows."""
        self._jobs.clear()
        self._active.clear()
        self._finished.clear()

    def _doubtful(self, queue: RowQueue) -> Row | None:
        """The row whose turn it is, if nothing but old costs tells an idle device to refuse it.

        They may be of a slow moment, and what they keep out can't correct them.
        """
        now = self._clock()
        ticket = None if self._jobs else queue.head(now)
        if ticket is None or ticket.request.deadline <= now:
            return None
        if now - self._stepped.get(_shape(ticket.row), -math.inf) < DOUBT_AFTER_S:
            return None
        return ticket.row if self._is_hopeless(ticket) else None

    def _is_hopeless(self, ticket: Ticket) -> bool:
        request, row = ticket.request, ticket.row
        alone = place(row, row.steps, request.arrived, request.deadline)
        return judge(alone, [], self.costs, self._limits, self._clock()) is Verdict.HOPELESS

    async def _try_out(self, row: Row, queue: RowQueue) -> None:
        """Learns what a step costs now, and if need be a picture; the row itself stays in the queue."""
        shape = _shape(row)
        self._stepped[shape] = self._clock()
        self.costs.step.doubt(shape)
        await self._worker.each(self._encode, [row])
        for sample in await self._worker.each(self._begin, [row]):
            if isinstance(sample, Exception):  # it fails alike when it is drawn
                return
            await self._worker.each(self._step, [sample])
            if sample.outer_only and not sample.finished:
                self.costs.outer.doubt(shape)
                await self._worker.each(self._outer_step, [sample])
            ticket = queue.head(self._clock())
            if ticket is not None and ticket.row == row and self._is_hopeless(ticket):
                self.costs.decode.doubt(shape)
                sample.row = replace(row, tiny_vae=False)  # every picture is counted as one of the whole VAE
                await self._worker.each(self._decode, [sample])

    def _choose(self, queue: RowQueue) -> list[Job]:
        batch = [job.place for job in self._active]
        limits = self._limits.within(self._step.memory.size)
        now = self._clock()
        joined: list[Job] = []
        passed_over: set[tuple[str, int]] = set()
        while (ticket := queue.head(now, passed_over)) is not None:
            request, row = ticket.request, ticket.row
            candidate = place(row, row.steps, request.arrived, request.deadline)
            match judge(candidate, batch, self.costs, limits, now):
                case Verdict.JOIN:
                    work = row.steps * unet_rows(row) * row.height * row.width
                    job = self._jobs[row] = Job(row, queue.take(ticket, work))
                    job.admit(now)
                    joined.append(job)
                    batch.append(candidate)
                case Verdict.LET_PASS:
                    passed_over.add(ticket.line)
                case Verdict.HOPELESS:
                    request.fail(DeadlineExceeded(f"cannot be done within {request.terms.timeout:g} s"))
                    queue.discard(request)
                case Verdict.WAIT:
                    break
        return joined

    def _end(self, job: Job, result: np.ndarray | Exception) -> None:
        """Takes leave of a row; who wants the same one from now on has it drawn anew."""
        self._jobs.pop(job.row, None)
        if isinstance(result, Exception):
            job.fail(_answer(result))
        else:
            job.deliver(result, self._clock())


def _shape(row: Row) -> Shape:
    return row.height, row.width


def _prompts(row: Row) -> tuple[str, str]:
    return row.prompt, row.negative_prompt


def _step_size(samples: Sequence[Sample]) -> tuple[Shape, int]:
    return _shape(samples[0].row), sum(unet_rows(sample.row) for sample in samples)


def _decode_size(samples: Sequence[Sample]) -> tuple[Shape, int]:
    return _shape(samples[0].row), len(samples)


def _answer(error: Exception) -> ServingError:
    """What the caller may know of a failure in the computation; the rest goes to the log."""
    if isinstance(error, ServingError):
        return error
    logger.error("a row could not be drawn", exc_info=error)
    if is_out_of_memory(error):
        return ServingError("the device has not enough memory for a picture of this size")
    return ServingError("the picture could not be drawn")
