"""What requests ask of the engine beside pictures, and of each other: time, turns, sharing."""

import asyncio
import threading

import pytest

from predictor.engine.engine import Engine
from predictor.engine.terms import Terms
from predictor.errors import DeadlineExceeded, QueueFull
from tests.predictor.engine.recorder import Recorder, make_row, run, settle


def test_a_request_ends_at_its_timeout_and_frees_its_rows_within_one_step():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        engine.start()
        late = asyncio.create_task(
            engine.draw([make_row(seed=seed, steps=50) for seed in (1, 2)], Terms(timeout=3))
        )
        await settle(lambda: engine.active_rows == 1)
        wanted = asyncio.create_task(engine.draw([make_row(seed=3, steps=1)]))
        with pytest.raises(DeadlineExceeded, match="not done within 3 s"):
            await late  # in the middle of a step
        assert engine.queue_depth == 1
        recorder.gate.release(100)
        await wanted
        await engine.stop(10)

    run(main)
    assert recorder.steps == [[1], [3]]


def test_a_request_that_cannot_be_done_in_time_is_told_so_and_not_begun():
    """Until its costs are so old that they are tried out, and found to be of a slow moment."""
    recorder = Recorder()

    async def main() -> None:
        now = [0.0]
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10, clock=lambda: now[0])
        engine.start()
        await engine.draw([make_row(seed=1)])
        for rows in (2, 4) * 6:
            engine.costs.step.observe((16, 16), rows, 100.0)
        with pytest.raises(DeadlineExceeded, match="cannot be done within 60 s"):
            await engine.draw([make_row(seed=2)], Terms(timeout=60))
        assert recorder.begun == [1]
        now[0] += 10
        pictures = await engine.draw([make_row(seed=3)], Terms(timeout=60))
        assert pictures[:, 0, 0, 0].tolist() == [3]
        await engine.stop(10)

    run(main)
    assert recorder.begun == [1, 3, 3]  # once for the trial


@pytest.mark.parametrize("where", ["begin", "step"])
def test_a_trial_that_fails_is_nothing_but_that(where):
    recorder = Recorder()

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        for rows in (2, 4) * 6:
            engine.costs.step.observe((16, 16), rows, 100.0)
        engine.start()
        with pytest.raises(DeadlineExceeded):
            await engine.draw([make_row(prompt=f"fails at {where}")], Terms(timeout=60))
        await engine.draw([make_row()])
        assert engine.alive
        await engine.stop(10)

    run(main)


def test_equal_rows_are_drawn_once_and_one_that_leaves_takes_nobody_with_it():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=4, max_queue_rows=10)
        engine.start()
        first = asyncio.create_task(engine.draw([make_row(seed=7, steps=4)]))
        await settle(lambda: engine.active_rows == 1)
        others = [
            asyncio.create_task(engine.draw([make_row(seed=7, steps=4)], terms))
            for terms in (Terms(), Terms(tenant="b", priority=1))
        ]
        pair = asyncio.create_task(engine.draw([make_row(seed=7, steps=4), make_row(seed=8, steps=1)]))
        await settle(lambda: engine.queue_depth == 1)
        first.cancel()
        recorder.gate.release(100)
        for task in others:
            assert (await task)[:, 0, 0, 0].tolist() == [7]
        assert (await pair)[:, 0, 0, 0].tolist() == [7, 8]
        await engine.stop(10)

    run(main)
    assert sum(step.count(7) for step in recorder.steps) == 4


def test_a_tenant_does_not_wait_for_all_that_another_asked_for_before():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=6, tenant_weights={"b": 2})
        engine.start()
        hog = []
        for seed in range(7):
            hog.append(asyncio.create_task(engine.draw([make_row(seed=seed, steps=1)], Terms(tenant="a"))))
            await settle(lambda: engine.active_rows == 1)
        await settle(lambda: engine.queue_depth == 6)
        late = [
            asyncio.create_task(engine.draw([make_row(seed=seed, steps=1)], Terms(tenant="b")))
            for seed in (10, 11)
        ]
        with pytest.raises(QueueFull):  # the newest of the hog's make room
            await hog[-1]
        with pytest.raises(QueueFull):
            await hog[-2]
        recorder.gate.release(100)
        await asyncio.gather(*hog[:-2], *late)
        await engine.stop(10)

    run(main)
    order = [step[0] for step in recorder.steps]
    assert set(order[:4]) == {0, 10, 11, 1}
    assert order[4:] == [2, 3, 4]
