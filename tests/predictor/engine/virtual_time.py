"""The queue, admission, the cost model and the batch together, in virtual time; the thread is left out."""

import asyncio
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from predictor.diffusion.row import Row
from predictor.engine.batch import Batch
from predictor.engine.cost_model import Line
from predictor.engine.queue import RowQueue
from predictor.engine.request import Request, Ticket
from tests.predictor.engine.recorder import Sample

DECODE = Line(0.02, 0.03)
OUTER = Line(0.002, 0.004)

step_lines = st.builds(Line, a=st.floats(0.001, 0.3), b=st.floats(0.001, 0.3))


@dataclass
class World:
    """A clock, and a diffuser whose calls move it: exactly t(B) for every step and every decoding."""

    step_line: Line
    outer_line: Line = OUTER
    now: float = 0.0
    encoded: set[str] = field(default_factory=set)
    batches: list[list[int]] = field(default_factory=list)
    begun: list[tuple[float, int]] = field(default_factory=list)
    ended: dict[int, float] = field(default_factory=dict)
    encodings: list[int] = field(default_factory=list)
    decoded: list[list[int]] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def seconds(self, line: Line, row: Row, rows: int) -> float:
        return line(rows) * row.height / 16

    def is_encoded(self, row):
        return row.prompt in self.encoded

    def encode(self, rows):
        self.encodings.append(len(rows))
        self.encoded |= {row.prompt for row in rows}
        return [None] * len(rows)

    def begin(self, rows):
        assert all(self.is_encoded(row) for row in rows)
        self.begun += [(self.now, row.seed) for row in rows]
        return [Sample(row) for row in rows]

    def step(self, samples):
        width = sum(2 if sample.row.guidance > 1 else 1 for sample in samples)
        [outer_only] = {sample.outer_only for sample in samples}
        line = self.outer_line if outer_only else self.step_line
        self.now += self.seconds(line, samples[0].row, width)
        self.batches.append([sample.row.seed for sample in samples])
        for sample in samples:
            sample.call += 1
        return samples

    def decode(self, samples):
        for size in {sample.row.height for sample in samples}:
            assert size == samples[0].row.height
        assert len({sample.row.tiny_vae for sample in samples}) == 1
        self.decoded.append([sample.row.seed for sample in samples])
        self.now += self.seconds(DECODE, samples[0].row, len(samples))
        for sample in samples:
            self.ended[sample.row.seed] = self.now
        return [np.full((2, 2, 3), sample.row.seed % 256, np.uint8) for sample in samples]

    async def each(self, call, items):
        """In place of the worker's thread."""
        shape, rows = call.measure(items)
        began = self.now
        results = call.work(items)
        call.costs.observe(shape, rows, self.now - began)
        return results


async def simulate(world, asked, limits, *, slow=(1.0, 1.0)):
    """Runs until every request has ended. `asked`: arrival, rows, terms.

    Steps and decoding were learned at a moment when they were `slow` times as slow.
    """
    batch = Batch(world, world, limits, world.clock)
    queue = RowQueue(1000)
    for size in (16, 32):
        for rows in (1, 2) * 6:
            batch.costs.step.observe((size, size), rows, slow[0] * world.step_line(rows) * size / 16)
            batch.costs.outer.observe((size, size), rows, slow[0] * world.outer_line(rows) * size / 16)
            batch.costs.decode.observe((size, size), rows, slow[1] * DECODE(rows) * size / 16)
    coming = sorted(asked, key=lambda one: one[0])
    requests = []
    while coming or len(queue) or len(batch):
        if not (len(queue) or len(batch)):
            world.now = max(world.now, coming[0][0])
        while coming and coming[0][0] <= world.now:
            arrived, rows, terms = coming.pop(0)
            request = Request(tuple(rows), terms, arrived, asyncio.get_running_loop().create_future())
            requests.append(request)
            tickets = [Ticket(request, index) for index in range(len(rows))]
            new = [ticket for ticket in tickets if not batch.share(ticket)]
            if new:
                assert queue.make_room(new) == []
                queue.push(new)
        for request in requests:  # as the engine's timeout does
            if request.deadline < world.now and not request.reply.done():
                request.reply.cancel()
                queue.discard(request)
        batch.drop_unwanted()
        await batch.admit(queue)
        await batch.step()
        await batch.decode()
    return requests
