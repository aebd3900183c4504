import asyncio
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.engine import Engine
from predictor.engine.terms import Terms
from predictor.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotReady,
    QueueFull,
    ServingError,
    UnknownModel,
)
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


def test_stopping_lets_accepted_rows_end_and_takes_no_more():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        assert not engine.accepting
        with pytest.raises(NotReady):
            await engine.draw([make_row()])
        engine.start()
        assert engine.accepting
        accepted = asyncio.create_task(engine.draw([make_row(seed=1), make_row(seed=2)]))
        await settle(lambda: engine.active_rows == 1)
        stopping = asyncio.create_task(engine.stop(60))
        await settle(lambda: not engine.accepting)
        with pytest.raises(NotReady):
            await engine.draw([make_row()])
        recorder.gate.release(100)
        assert len(await accepted) == 2
        await stopping

    run(main)


def test_stopping_in_a_hurry_fails_what_is_left():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        engine.start()
        accepted = asyncio.create_task(engine.draw([make_row(steps=1000, seed=seed) for seed in (1, 2)]))
        await settle(lambda: engine.active_rows == 1)
        stopping = asyncio.create_task(engine.stop(0))
        with pytest.raises(NotReady):
            await accepted
        recorder.gate.release(1)  # the step under way ends; no other follows
        await stopping
        assert engine.active_rows == engine.queue_depth == 0

    run(main)


def test_an_idle_engine_is_alive_and_stops():
    async def main() -> None:
        now = [0.0]
        engine = Engine(Recorder(), max_batch_size=1, max_queue_rows=1, clock=lambda: now[0])
        engine.start()
        await engine.draw([make_row()])
        now[0] += 1e9
        assert engine.alive
        await engine.stop(60)
        assert engine.alive
        assert not engine.accepting

    run(main)


def test_a_step_that_hangs_is_noticed_within_five_seconds_and_that_it_goes_on_again():
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        now = [0.0]
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=1, hang_timeout=120, clock=lambda: now[0])
        engine.start()
        first = asyncio.create_task(engine.draw([make_row(steps=1)]))
        await settle(lambda: engine.active_rows == 1)
        now[0] += 119  # compiling
        assert engine.alive
        recorder.gate.release()
        await first
        recorder.gate.release()
        await engine.draw([make_row(steps=1)])
        second = asyncio.create_task(engine.draw([make_row(steps=1)]))
        await settle(lambda: engine.active_rows == 1 and engine._watchdog._until is not None)
        now[0] += 3
        assert engine.alive
        now[0] += 2
        assert not engine.alive
        recorder.gate.release()
        await second
        assert engine.alive
        await engine.stop(10)

    run(main)


def test_a_crash_of_the_engine_itself_needs_a_restart(monkeypatch, caplog):
    async def main() -> None:
        engine = Engine(Recorder(), max_batch_size=1, max_queue_rows=1)
        monkeypatch.setattr(engine._batch, "drop_unwanted", lambda: 1 / 0)
        engine.start()
        await settle(lambda: not engine.accepting)
        assert not engine.alive
        await engine.stop(0)

    run(main)
    assert "a defect" in caplog.text


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
