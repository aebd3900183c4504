"""The thread that computes, and how many OpenMP threads it shares the cores with."""

import asyncio
import os
import time
from collections.abc import Iterator, Sequence

import pytest
import torch

from predictor.engine.watchdog import Watchdog
from predictor.engine.worker import Call, CallKind, Worker


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
