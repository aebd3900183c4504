"""The queue, admission, the cost model and the batch together, in virtual time; the thread is left out."""

import asyncio
import math
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.diffusion.row import Row
from predictor.engine.admission import BatchLimits
from predictor.engine.batch import DOUBT_AFTER_S, Batch
from predictor.engine.cost_model import Line
from predictor.engine.queue import RowQueue
from predictor.engine.request import Request, Ticket
from predictor.engine.terms import Terms
from predictor.errors import DeadlineExceeded
from tests.predictor.engine.recorder import Sample, make_row

DECODE = Line(0.02, 0.03)
OUTER = Line(0.002, 0.004)


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


asked = st.lists(
    st.tuples(
        st.floats(0, 20),  # arrival
        st.lists(
            st.tuples(st.integers(1, 12), st.sampled_from([1.0, 2.0]), st.integers(1, 3)),
            min_size=1,
            max_size=3,
        ),
        st.sampled_from([16, 16, 32]),
        st.sampled_from("ab"),
        st.integers(-1, 1),
        st.one_of(st.none(), st.floats(0.1, 30)),
    ),
    max_size=15,
)
step_lines = st.builds(Line, a=st.floats(0.001, 0.3), b=st.floats(0.001, 0.3))


def made(asked):
    """Requests with rows of different seeds."""
    numbers = iter(range(1000))
    return [
        (
            arrived,
            [
                make_row(
                    seed=next(numbers),
                    steps=steps,
                    guidance=guidance,
                    height=size,
                    width=size,
                    inner_every=every,
                )
                for steps, guidance, every in rows
            ],
            Terms(timeout, priority, tenant),
        )
        for arrived, rows, size, tenant, priority, timeout in asked
    ]


def is_trial(world, request, row):
    """Whether it was refused, after one step of each kind that told that this was right."""
    refused = not request.reply.cancelled() and isinstance(request.reply.exception(), DeadlineExceeded)
    return refused and sum(batch.count(row.seed) for batch in world.batches) <= min(2, row.inner_every)


@settings(deadline=None)
@given(asked=asked, line=step_lines, most=st.integers(1, 6), max_latency=st.sampled_from([math.inf, 3.0]))
def test_none_lost_none_over_the_maximum_deadlines_kept_order_kept(asked, line, most, max_latency):
    world, asked = World(line), made(asked)
    requests = asyncio.run(simulate(world, asked, BatchLimits(most, max_latency)))
    assert len(requests) == len(asked)
    assert all(len(batch) <= most for batch in world.batches)
    began = {seed: when for when, seed in world.begun}
    for request in requests:
        assert request.reply.done()
        seeds = [row.seed for row in request.rows]
        if request.reply.cancelled() or request.reply.exception():
            assert request.terms.timeout is not None
            continue
        assert request.reply.result()[:, 0, 0, 0].tolist() == seeds
        for row in request.rows:
            assert sum(batch.count(row.seed) for batch in world.batches) == row.steps
    for request in requests:  # what was begun at all was ready in time
        for row in request.rows:
            if row.seed in world.ended:
                in_time = world.ended[row.seed] <= request.deadline + 1e-6
                assert in_time or is_trial(world, request, row)
    for tenant, priority in {(request.terms.tenant, request.terms.priority) for request in requests}:
        same = [r for r in requests if (r.terms.tenant, r.terms.priority) == (tenant, priority)]
        starts = [began[row.seed] for request in same for row in request.rows if row.seed in began]
        assert starts == sorted(starts)


def test_between_the_turns_of_two_sizes_a_row_is_not_taken_for_late():
    """It will be in time by a hair, so nobody else joins at its cost, whoever's turn it is."""
    world = World(Line(0.1, 0.3))
    turn = world.step_line(1) * (1 + 2)
    timeout = 10 * turn + DECODE(1) + 2 * world.step_line(1)  # it joins after the large row's first step
    asked = [
        (0.0, [make_row(seed=0, steps=30, guidance=1.0, height=32, width=32)], Terms()),
        (0.01, [make_row(seed=1, steps=10, guidance=1.0)], Terms(timeout)),
        (0.02, [make_row(seed=2, steps=30, guidance=1.0, height=32, width=32)], Terms(tenant="b")),
    ]
    asyncio.run(simulate(world, asked, BatchLimits(4)))
    assert world.ended[1] <= 0.01 + timeout
    assert {0, 1, 2} == world.ended.keys()


@settings(deadline=None)
@given(
    line=step_lines,
    slow=st.tuples(st.floats(0.5, 1000), st.floats(0.5, 1000)),
    asked=st.lists(
        st.tuples(
            st.floats(0, 30),  # seconds after the one before
            st.integers(1, 12),
            st.sampled_from([1.0, 2.0]),
            st.sampled_from([16, 32]),
            st.floats(1.01, 3),  # its timeout, by what it takes with a trial before it
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_an_idle_engine_unlearns_the_costs_of_a_slow_moment(line, slow, asked):
    """Each comes when those before have ended, and would be refused by what was learned then."""
    now, requests = 0.0, []
    for number, (gap, steps, guidance, size, patience) in enumerate(asked):
        row = make_row(seed=number, steps=steps, guidance=guidance, height=size, width=size)
        step, decode = (
            known(2 if known is line and guidance > 1 else 1) * size / 16 for known in (line, DECODE)
        )
        timeout = patience * ((steps + 1) * step + 2 * decode)
        now += gap + timeout
        requests.append((now, [row], Terms(timeout)))
        now += timeout
    world = World(line)
    for request in asyncio.run(simulate(world, requests, BatchLimits(4), slow=slow)):
        assert request.reply.done()
        assert request.reply.result()[0, 0, 0, 0] == request.rows[0].seed


def test_the_outer_layers_costs_of_a_slow_moment_are_unlearned_too():
    world = World(Line(0.1, 0.2), Line(0.01, 0.02))
    row = make_row(steps=10, guidance=1.0, inner_every=5)
    timeout = 1.05 * (3 * 0.3 + 9 * 0.03 + 2 * DECODE(1))
    [request] = asyncio.run(
        simulate(world, [(50.0, [row], Terms(timeout))], BatchLimits(4), slow=(100.0, 1.0))
    )
    assert request.reply.result()[0, 0, 0, 0] == row.seed


def test_a_slow_moments_price_of_pictures_is_unlearned_by_a_row_of_the_tiny_vae():
    world = World(Line(0.1, 0.2))
    row = make_row(steps=2, guidance=1.0, tiny_vae=True)
    request = (50.0, [row], Terms(1.05 * (3 * 0.3 + 2 * DECODE(1))))
    [request] = asyncio.run(simulate(world, [request], BatchLimits(4), slow=(1.0, 100.0)))
    assert request.reply.result()[0, 0, 0, 0] == row.seed
    assert len(world.decoded) == 2


def test_rows_of_one_turn_are_one_call_for_each_kind():
    """They began at different steps, so that the inner layers are due for some and not for others."""
    world = World(Line(0.1, 0.1))
    asked = [
        (0.0, [make_row(seed=0, steps=6, inner_every=3), make_row(seed=1, steps=6)], Terms()),
        (0.01, [make_row(seed=2, steps=3, inner_every=2)], Terms()),
    ]
    asyncio.run(simulate(world, asked, BatchLimits(4)))
    calls = [sorted(batch) for batch in world.batches]
    assert calls == [[0, 1], [1, 2], [0], [1], [0, 2], [0, 1, 2], [1], [0], [1], [0]]


@settings(deadline=None, max_examples=30)
@given(line=step_lines, steps=st.integers(1, 12), gaps=st.lists(st.floats(0, 30), min_size=1, max_size=8))
def test_what_is_rightly_refused_costs_a_trial_now_and_then(line, steps, gaps):
    arrivals = list(accumulate(gaps))
    timeout = 0.9 * (steps * line(1) + DECODE(1))
    asked = [
        (arrived, [make_row(seed=number, steps=steps, guidance=1.0)], Terms(timeout))
        for number, arrived in enumerate(arrivals)
    ]
    world = World(line)
    requests = asyncio.run(simulate(world, asked, BatchLimits(4)))
    assert all(request.reply.cancelled() or request.reply.exception() for request in requests)
    assert world.ended.keys() <= {batch[0] for batch in world.batches}  # trials
    assert len(world.batches) <= 1 + (arrivals[-1] + world.now - arrivals[0]) / DOUBT_AFTER_S


@settings(deadline=None, max_examples=10)
@given(
    line=st.builds(Line, a=st.floats(0.1, 0.5), b=st.floats(0.1, 0.5)),
    most=st.integers(1, 4),
    steps=st.integers(1, 12),
)
def test_nobody_starves_beside_endless_urgent_rows(line, most, steps):
    """More arrives than can be drawn, all of it more urgent; the one row is drawn all the same."""
    gap = line(2)  # and each row takes 8 of them alone
    endless = [
        (number * gap, [make_row(seed=number, steps=8)], Terms(priority=3, tenant="ab"[number % 2]))
        for number in range(int(80 / gap))
    ]
    world = World(line)
    poor = (0.0, [make_row(seed=999, steps=steps)], Terms(priority=-3, tenant="a"))
    asyncio.run(simulate(world, [poor, *endless], BatchLimits(most)))
    assert 999 in world.ended
    order = [seed for _, seed in world.begun]
    # of its tenant only those overtook it that came within a minute: six levels of ten seconds
    overtook = [seed * gap for seed in order[: order.index(999)] if seed % 2 == 0]
    assert max(overtook, default=0.0) <= 60 + 1e-6


def test_equal_rows_share_one_computation_and_part_without_harm():
    async def main() -> None:
        world = World(Line(0.1, 0.1))
        batch, queue = Batch(world, world, BatchLimits(4), world.clock), RowQueue(10)
        row = make_row(seed=7, steps=3)
        first, second, third = (
            Request((row,), Terms(), 0.0, asyncio.get_running_loop().create_future()) for _ in range(3)
        )
        queue.push([Ticket(first, 0)])
        queue.push([Ticket(second, 0)])
        assert len(queue) == 1
        await batch.admit(queue)
        assert len(queue) == 0
        await batch.step()
        assert batch.share(Ticket(third, 0))  # one that comes while it's being drawn
        first.reply.cancel()
        batch.drop_unwanted()
        assert batch.active == 1
        for _ in range(2):
            await batch.step()
        await batch.decode()
        assert second.reply.result()[0, 0, 0, 0] == third.reply.result()[0, 0, 0, 0] == 7
        assert world.batches == [[7]] * 3
        assert len(batch) == 0
        assert not batch.share(Ticket(third, 0))

    asyncio.run(main())


def test_a_row_leaves_within_one_step_once_nobody_wants_it():
    async def main() -> None:
        world = World(Line(0.1, 0.1))
        batch, queue = Batch(world, world, BatchLimits(4), world.clock), RowQueue(10)
        row = make_row(seed=7, steps=3)
        two = [Request((row,), Terms(), 0.0, asyncio.get_running_loop().create_future()) for _ in range(2)]
        for request in two:
            queue.push([Ticket(request, 0)])
        await batch.admit(queue)
        await batch.step()
        for request in two:
            request.reply.cancel()
        batch.drop_unwanted()
        assert (batch.active, len(batch)) == (0, 0)

    asyncio.run(main())


def test_pictures_of_the_tiny_vae_are_decoded_apart_and_teach_nothing_of_the_other():
    async def main() -> None:
        world = World(Line(0.1, 0.1))
        asked = [(0.0, [make_row(seed=seed, steps=2, tiny_vae=seed > 1) for seed in range(4)], Terms())]
        await simulate(world, asked, BatchLimits(8))
        assert world.decoded == [[0, 1], [2, 3]]

    asyncio.run(main())


def test_prompts_of_waiting_rows_are_encoded_with_those_that_begin():
    world = World(Line(0.1, 0.1))
    asked = [(0.0, [make_row(seed=number, prompt=str(number), steps=2)], Terms()) for number in range(20)]
    asyncio.run(simulate(world, asked, BatchLimits(2)))
    assert world.encodings == [16, 4]


def test_pictures_that_are_ready_together_are_decoded_in_one_call():
    world = World(Line(0.001, 0.1))
    asked = [(0.0, [make_row(seed=number, steps=2) for number in range(4)], Terms())]
    asyncio.run(simulate(world, asked, BatchLimits(8)))
    assert len(set(world.ended.values())) == 1
