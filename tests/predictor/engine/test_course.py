"""What the engine tells of its work: every row's course, and every call."""

import asyncio
import threading
from itertools import count

import numpy as np
import pytest

from predictor.engine.course import Course
from predictor.engine.engine import Engine
from predictor.engine.terms import Terms
from predictor.engine.worker import CallKind
from predictor.errors import DeadlineExceeded, QueueFull, ServingError
from tests.predictor.engine.recorder import Recorder, make_row, run, settle


def times(course: Course) -> list[float | None]:
    return [course.arrived, course.admitted, course.begun, course.stepped, course.drawn]


def courses(number: int) -> list[Course]:
    return [Course() for _ in range(number)]


def test_a_row_is_followed_from_its_arrival_to_its_picture() -> None:
    async def main() -> None:
        ticking = count()
        engine = Engine(Recorder(), max_batch_size=4, max_queue_rows=4, clock=lambda: float(next(ticking)))
        engine.start()
        seen = courses(2)
        await engine.draw([make_row(seed=1, steps=3), make_row(seed=2, steps=5)], courses=seen)
        for course in seen:
            known = [time for time in times(course) if time is not None]
            assert len(known) == 5
            assert known == sorted(known)
        assert [course.steps for course in seen] == [3, 5]
        assert [course.mates for course in seen] == [3 * 2, 3 * 2 + 2 * 1]
        assert seen[0].arrived == seen[1].arrived
        assert seen[0].drawn < seen[1].drawn
        assert [course.encoded for course in seen] == [True, False]  # one prompt, encoded once
        await engine.stop(0)

    run(main)


def test_equal_rows_share_a_computation_whenever_they_come() -> None:
    async def main() -> None:
        recorder = Recorder(gate=threading.Semaphore(0))
        engine = Engine(recorder, max_batch_size=4, max_queue_rows=4)
        engine.start()
        row, first, late = make_row(seed=1, steps=2), courses(2), courses(1)
        one = asyncio.create_task(engine.draw([row, row], courses=first))
        recorder.gate.release()
        await settle(lambda: first[0].steps == 1)
        other = asyncio.create_task(engine.draw([row], courses=late))
        await settle(lambda: late[0].begun is not None)
        recorder.gate.release()
        np.testing.assert_array_equal((await one)[:1], await other)
        assert [course.shared for course in (*first, *late)] == [False, True, True]
        assert [course.steps for course in (*first, *late)] == [2, 2, 1]
        await engine.stop(0)

    run(main)


def test_a_row_that_does_not_come_far_has_no_later_times() -> None:
    async def main() -> None:
        recorder = Recorder(gate=threading.Semaphore(0))
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=1)
        engine.start()
        first, waiting, refused, failed = (courses(1) for _ in range(4))
        drawing = asyncio.create_task(engine.draw([make_row(seed=1, steps=2)], courses=first))
        await settle(lambda: engine.active_rows == 1)
        with pytest.raises(DeadlineExceeded):
            await engine.draw([make_row(seed=2)], Terms(timeout=0.01), courses=waiting)
        blocker = asyncio.create_task(engine.draw([make_row(seed=3)]))
        await settle(lambda: engine.queue_depth == 1)
        with pytest.raises(QueueFull):
            await engine.draw([make_row(seed=4)], courses=refused)
        for course in (waiting[0], refused[0]):
            assert [time is not None for time in times(course)] == [True, False, False, False, False]
        blocker.cancel()
        drawing.cancel()
        recorder.gate.release(10)
        await asyncio.gather(blocker, drawing, return_exceptions=True)
        assert first[0].drawn is None
        with pytest.raises(ServingError):
            await engine.draw([make_row(seed=5, prompt="fails at decode", steps=1)], courses=failed)
        assert [time is not None for time in times(failed[0])] == [True, True, True, True, False]
        await engine.stop(0)

    run(main)


def test_every_call_that_succeeds_is_told_of() -> None:
    async def main() -> None:
        told: list[tuple[CallKind, int, float]] = []
        engine = Engine(
            Recorder(),
            max_batch_size=4,
            max_queue_rows=4,
            observer=lambda kind, rows, seconds: told.append((kind, rows, seconds)),
        )
        engine.start()
        await engine.draw([make_row(seed=1, steps=1), make_row(seed=2, steps=2)])
        assert [(kind, rows) for kind, rows, _ in told] == [
            (CallKind.ENCODE, 2),
            (CallKind.BEGIN, 2),
            (CallKind.STEP, 2),
            (CallKind.DECODE, 1),
            (CallKind.STEP, 1),
            (CallKind.DECODE, 1),
        ]
        assert all(seconds >= 0 for _, _, seconds in told)
        told.clear()
        with pytest.raises(ServingError):
            await engine.draw([make_row(prompt="fails at step")])
        assert [kind for kind, _, _ in told] == [CallKind.ENCODE, CallKind.BEGIN]
        await engine.stop(0)

    run(main)
