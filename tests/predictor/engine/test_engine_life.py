"""The engine's life: starting, stopping, hanging, crashing."""

import asyncio
import threading

import pytest
import torch

from predictor.engine import worker
from predictor.engine.engine import Engine
from predictor.errors import NotReady
from tests.predictor.engine.recorder import Recorder, make_row, run, settle


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


def test_stopping_does_not_wait_for_a_step_that_hangs(monkeypatch):
    monkeypatch.setattr(worker, "STOP_S", 0.1)
    recorder = Recorder(gate=threading.Semaphore(0))

    async def main() -> None:
        engine = Engine(recorder, max_batch_size=1, max_queue_rows=10)
        engine.start()
        accepted = asyncio.create_task(engine.draw([make_row()]))
        await settle(lambda: engine.active_rows == 1)
        try:
            async with asyncio.timeout(20):
                await engine.stop(0)
        finally:
            recorder.gate.release(100)
        with pytest.raises(NotReady):
            await accepted

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


def test_a_device_that_computes_no_more_needs_a_restart(monkeypatch, caplog):
    def fails(samples):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    async def main() -> None:
        recorder = Recorder()
        monkeypatch.setattr(recorder, "step", fails)
        engine = Engine(recorder, max_batch_size=2, max_queue_rows=10)
        engine.start()
        with pytest.raises(NotReady):
            await engine.draw([make_row(seed=1), make_row(seed=2)])
        assert not engine.accepting
        assert not engine.alive
        await engine.stop(0)

    run(main)
    assert "illegal memory access" in caplog.text
