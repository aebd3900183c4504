import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.engine import Engine
from predictor.engine.terms import Terms
from predictor.errors import InvalidInput, QueueFull, ServingError, UnknownModel
from tests.predictor.engine.recorder import Recorder, make_row, run, settle

FINE = ("fine", "fails at encode")
"""What is drawn: encoding ahead is a help only, `begin` has the last word."""


@settings(deadline=None, max_examples=40)
@given(
    max_batch_size=st.integers(1, 5),
    requests=st.lists(
        st.lists(
            st.tuples(
                st.integers(1, 4),  # steps
                st.sampled_from(
                    ["fine"] * 6 + ["fails at begin", "fails at step", "fails at decode", "fails at encode"]
                ),
            ),
            min_size=1,
            max_size=4,
        ),
        max_size=6,
    ),
    sizes=st.lists(st.sampled_from([16, 24]), min_size=6, max_size=6),
)
def test_no_row_is_lost_and_no_batch_too_large(max_batch_size, requests, sizes):
    recorder = Recorder()
    numbers = iter(range(100))
    drawn = [
        [make_row(seed=next(numbers), steps=steps, prompt=prompt, height=size) for steps, prompt in request]
        for request, size in zip(requests, sizes, strict=False)
    ]

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=max_batch_size, max_queue_rows=100)
        engine.start()
        replies = await asyncio.gather(*map(engine.draw, drawn), return_exceptions=True)
        assert engine.queue_depth == engine.active_rows == 0
        await engine.stop(10)
        for rows, reply in zip(drawn, replies, strict=True):
            if any(row.prompt not in FINE for row in rows):
                assert type(reply) is ServingError
                assert "secret" not in str(reply)
            else:
                assert reply[:, 0, 0, 0].tolist() == [row.seed for row in rows]

    run(main)
    assert recorder.begun == sorted(recorder.begun)  # first come, first served
    assert all(len(step) <= max_batch_size for step in recorder.steps)
    for rows in drawn:
        if all(row.prompt in FINE for row in rows):
            for row in rows:
                assert sum(step.count(row.seed) for step in recorder.steps) == row.steps


def test_rows_join_the_batch_between_steps_and_leave_when_done():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=2, max_queue_rows=10)
        engine.start()
        long = asyncio.create_task(engine.draw([make_row(seed=1, steps=4)]))
        await settle(lambda: engine.active_rows == 1)
        pair = asyncio.create_task(engine.draw([make_row(seed=2, steps=1), make_row(seed=3, steps=2)]))
        await settle(lambda: engine.queue_depth == 2)
        recorder.gate.release(100)
        await asyncio.gather(long, pair)
        await engine.stop(10)

    run(main)
    # The first step runs alone; then one row of the pair joins, and the other takes its place.
    assert recorder.steps == [[1], [1, 2], [1, 3], [1, 3]]


def test_a_row_that_waits_for_its_solver_table_holds_up_no_other():
    async def run() -> tuple[bool, int]:
        recorder = Recorder()
        engine = Engine(recorder, max_batch_size=4, max_queue_rows=8)
        engine.start()
        waiting = asyncio.create_task(engine.draw([make_row(prompt="new table", seed=1)]))
        await asyncio.sleep(0)
        await engine.draw([make_row(seed=2)])  # ends although the first still waits
        early = waiting.done()
        recorder.table_gate.release()
        picture = await waiting
        await engine.stop(1.0)
        return early, int(picture[0, 0, 0, 0])

    assert asyncio.run(run()) == (False, 1)


def test_rows_that_wait_for_their_solver_tables_hold_up_nothing_else():
    """Not what else goes by the event loop's own threads: replies, the store, LoRAs."""
    recorder = Recorder()

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=4, max_queue_rows=64)
        engine.start()
        waiting = [
            asyncio.create_task(engine.draw([make_row(prompt="new table", seed=seed)])) for seed in range(40)
        ]
        await asyncio.sleep(0)  # now they wait
        try:
            async with asyncio.timeout(20):
                await asyncio.to_thread(lambda: None)
        finally:
            recorder.table_gate.release(40)
        await asyncio.gather(*waiting)
        await engine.stop(10)

    run(main)


def test_no_table_is_made_for_rows_that_find_no_room():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=2)
        engine.start()
        first = asyncio.create_task(engine.draw([make_row()]))
        await settle(lambda: engine.active_rows == 1)
        second = asyncio.create_task(engine.draw([make_row(seed=1), make_row(seed=2)]))
        await settle(lambda: engine.queue_depth == 2)
        try:
            with pytest.raises(QueueFull):
                await engine.draw([make_row(prompt="new table", seed=3)], Terms(timeout=20))
        finally:
            recorder.table_gate.release()
            recorder.gate.release(100)
        await asyncio.gather(first, second)
        await engine.stop(10)

    run(main)


def test_cancelling_frees_the_rows_at_the_next_step():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=2, max_queue_rows=10)
        engine.start()
        unwanted = asyncio.create_task(engine.draw([make_row(seed=seed, steps=50) for seed in (1, 2, 3)]))
        await settle(lambda: engine.active_rows == 2)
        wanted = asyncio.create_task(engine.draw([make_row(seed=4, steps=2)]))
        await settle(lambda: engine.queue_depth == 2)
        unwanted.cancel()
        await settle(unwanted.done)
        assert engine.queue_depth == 1  # the waiting row of the cancelled request is gone at once
        recorder.gate.release(100)
        assert (await wanted)[0, 0, 0, 0] == 4
        await engine.stop(10)

    run(main)
    assert recorder.steps == [[1, 2], [4], [4]]


def test_sizes_take_turns():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=4, max_queue_rows=10)
        engine.start()
        draws = [engine.draw([make_row(seed=height, steps=3, height=height)]) for height in (16, 24, 32)]
        tasks = [asyncio.create_task(draw) for draw in draws]
        await settle(lambda: engine.queue_depth + engine.active_rows == 3)
        recorder.gate.release(100)
        await asyncio.gather(*tasks)
        await engine.stop(10)

    run(main)
    assert [size[0] for size in recorder.sizes] == [16, 24, 32] * 3


def test_a_full_queue_says_when_to_come_back():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=2)
        engine.start()
        first = asyncio.create_task(engine.draw([make_row()]))
        await settle(lambda: engine.active_rows == 1)
        second = asyncio.create_task(engine.draw([make_row(seed=1), make_row(seed=2)]))
        await settle(lambda: engine.queue_depth == 2)
        with pytest.raises(QueueFull) as caught:
            await engine.draw([make_row(), make_row(seed=3)])
        assert caught.value.retry_after >= 1
        recorder.gate.release(100)
        await asyncio.gather(first, second)
        await engine.draw([make_row()])  # there is room again
        await engine.stop(10)

    run(main)


def test_the_wait_grows_with_the_work_ahead():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=2, max_queue_rows=4)
        engine.start()
        for rows in (2, 4) * 6:  # a step of one guided row takes 1.5 s, of two 2 s
            engine.costs.step.observe((16, 16), rows, 1 + rows / 4)
        draws = [asyncio.create_task(engine.draw([make_row(steps=10, seed=seed) for seed in range(4)]))]
        await settle(lambda: engine.active_rows == 2)
        with pytest.raises(QueueFull) as caught:
            await engine.draw([make_row(seed=seed) for seed in range(4, 8)])
        assert caught.value.retry_after == 40  # 4 rows of 10 steps, 2 at a time, 2 s a step
        recorder.gate.release(100)
        await asyncio.gather(*draws)
        await engine.stop(10)

    run(main)


def test_rows_that_do_not_fit_the_device_are_stepped_in_smaller_batches():
    recorder = Recorder(memory_rows=2)

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=8, max_queue_rows=8)
        engine.start()
        pictures = await engine.draw([make_row(seed=seed, steps=2) for seed in range(8)])
        assert pictures[:, 0, 0, 0].tolist() == list(range(8))
        recorder.memory_rows = 0
        with pytest.raises(ServingError, match="memory"):
            await engine.draw([make_row()])
        recorder.memory_rows = 2
        await engine.draw([make_row()])
        await engine.stop(10)

    run(main)


def test_a_lora_leaves_when_its_rows_have_ended():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        engine.start()
        using = asyncio.create_task(engine.draw([make_row(loras=(("a@1", 1.0),))]))
        await settle(lambda: engine.active_rows == 1)
        leaving = asyncio.create_task(engine.remove_adapter("a@1"))
        await asyncio.sleep(0)
        with pytest.raises(UnknownModel):
            await engine.draw([make_row(loras=(("a@1", 1.0),))])
        assert recorder.adapters == ("a@1",)
        recorder.gate.release(100)
        await asyncio.gather(using, leaving)
        assert recorder.adapters == ()
        with pytest.raises(UnknownModel):
            await engine.remove_adapter("a@1")
        await engine.stop(10)

    run(main)


@pytest.mark.parametrize("rows", [[], [make_row()] * 5, [make_row(), make_row(height=32)]])
def test_rows_that_cannot_go_together_are_refused(rows):
    async def main() -> None:
        engine = Engine(Recorder(), max_batch_size=1, max_queue_rows=4)
        engine.start()
        with pytest.raises(InvalidInput):
            await engine.draw(rows)
        await engine.stop(10)

    run(main)
