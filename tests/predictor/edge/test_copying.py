"""Where pixels are copied: short work on the loop's own thread, long work beside it."""

import asyncio
import threading

import pytest

from predictor.edge import copy_pixels
from predictor.edge.copying import SHORT


@pytest.mark.parametrize(("size", "beside"), [(0, False), (SHORT, False), (SHORT + 1, True)])
def test_only_long_work_leaves_the_event_loop(size: int, beside: bool) -> None:
    thread = asyncio.run(copy_pixels(size, threading.current_thread))
    assert (thread is not threading.main_thread()) == beside


@pytest.mark.parametrize("size", [SHORT, SHORT + 1])
def test_arguments_results_and_errors_go_through(size: int) -> None:
    assert asyncio.run(copy_pixels(size, divmod, 7, 2)) == (3, 1)
    assert asyncio.run(copy_pixels(size, int, "ff", base=16)) == 255
    with pytest.raises(ZeroDivisionError):
        asyncio.run(copy_pixels(size, divmod, 7, 0))
