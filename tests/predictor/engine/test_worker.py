"""The thread that computes, and how many OpenMP threads it shares the cores with."""

import asyncio
import time
from collections.abc import Iterator

import pytest
import torch

from predictor.engine.watchdog import Watchdog
from predictor.engine.worker import Worker


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
