"""What rows of one batch share and what they don't: calls, computations, turns."""

import asyncio

from predictor.engine.admission import BatchLimits
from predictor.engine.batch import Batch
from predictor.engine.cost_model import Line
from predictor.engine.queue import RowQueue
from predictor.engine.request import Request, Ticket
from predictor.engine.terms import Terms
from tests.predictor.engine.recorder import make_row
from tests.predictor.engine.virtual_time import DECODE, World, simulate


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


def test_pictures_of_the_tiny_vae_are_decoded_apart_and_teach_nothing_of_the_other():
    async def main() -> None:
        world = World(Line(0.1, 0.1))
        asked = [(0.0, [make_row(seed=seed, steps=2, tiny_vae=seed > 1) for seed in range(4)], Terms())]
        await simulate(world, asked, BatchLimits(8))
        assert world.decoded == [[0, 1], [2, 3]]

    asyncio.run(main())
