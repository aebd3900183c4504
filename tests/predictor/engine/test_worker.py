"""The thread that computes, and how many OpenMP threads it shares the cores with."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence

import pytest
import torch

from predictor.engine.watchdog import Watchdog
from predictor.engine.worker import Call, CallKind, Worker
from tests.predictor.engine.pretended_events import Device


@pytest.fixture
def threads() -> Iterator[None]:
    """Leaves torch's number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_all_threads_but_the_worker_compute_alone(threads: None) -> None:
    async def main() -> list[int]:
        worker = Worker(3, Watchdog(time.monotonic, 60.0), time.monotonic, lambda *_: None)
        beside = await asyncio.to_thread(torch.get_num_threads)
        inside = await worker.compute(torch.get_num_threads)
        await worker.stop()
        return [torch.get_num_threads(), beside, inside]

    assert asyncio.run(main()) == [1, 1, 3]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="gives the process one core")
@pytest.mark.parametrize("steady", [False, True])
def test_threads_without_cores_of_their_own_give_way_to_one(steady: bool, threads: None) -> None:
    layer, image = torch.nn.Conv2d(32, 32, 3), torch.zeros(8, 32, 64, 64)

    def convolve(items: Sequence[int]) -> list[int]:
        with torch.inference_mode():
            for _ in range(10):
                layer(image)
        return [torch.get_num_threads()] * len(items)

    async def main() -> list[int | Exception]:
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})  # what computes later is started from here
        try:
            worker = Worker(2, Watchdog(time.monotonic, 60.0), time.monotonic, lambda *_: None, steady=steady)
            call = Call(CallKind.STEP, convolve, lambda items: ((64, 64), len(items)))
            used = [found for _ in range(4) for found in await worker.each(call, [0])]
            assert worker.threads == used[-1]
            await worker.stop()
        finally:
            os.sched_setaffinity(0, cores)
        return used

    assert asyncio.run(main()) == ([2, 2, 2, 2] if steady else [2, 2, 2, 1])


@pytest.mark.parametrize("rows", [1, 3])
def test_a_device_that_computes_no_more_is_no_rows_fault(rows: int, threads: None) -> None:
    def fails(items: Sequence[int]) -> list[int]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    async def main() -> None:
        worker = Worker(1, Watchdog(time.monotonic, 60.0), time.monotonic, lambda *_: None)
        call = Call(CallKind.STEP, fails, lambda items: ((64, 64), len(items)))
        with pytest.raises(torch.AcceleratorError):
            await worker.each(call, list(range(rows)))
        await worker.stop()

    asyncio.run(main())


def test_costs_are_learned_from_the_call_that_took_them(monkeypatch, threads: None) -> None:
    """A GPU computes behind the host: what a call took is known at a later one, of another kind perhaps."""
    device = Device()
    monkeypatch.setattr("torch.cuda.Event", device.event)
    heard: list[tuple[CallKind, int, float]] = []

    def step(items: Sequence[int]) -> list[int]:
        device.asked += 0.5 * len(items)
        return list(items)

    def decode(items: Sequence[int]) -> list[int]:
        device.asked += 4
        device.done = device.asked
        return list(items)

    async def main() -> None:
        watchdog = Watchdog(time.monotonic, 60.0)
        worker = Worker(1, watchdog, time.monotonic, lambda *call: heard.append(call), computes_behind=True)
        steps = Call(CallKind.STEP, step, lambda items: ((64, 64), 2 * len(items)))
        decodes = Call(CallKind.DECODE, decode, lambda items: ((64, 64), len(items)))
        await worker.each(steps, [1, 2, 3])
        assert heard == []
        assert not steps.costs.has_seen((64, 64), 6)
        await worker.each(decodes, [1])
        await worker.each(steps, [1])
        assert steps.costs.has_seen((64, 64), 6)
        assert decodes.costs.has_seen((64, 64), 1)
        assert heard == [(CallKind.STEP, 3, 1.5), (CallKind.DECODE, 1, 4.0)]
        await worker.stop()

    asyncio.run(main())
