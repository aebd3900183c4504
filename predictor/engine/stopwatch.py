"""How long calls take where they are computed: on the host, or on a GPU that the host is ahead of.

It doesn't know what is called.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Generic, Protocol, TypeVar

import torch

Label = TypeVar("Label")


class Stopwatch(Protocol[Label]):
    """One thread's; labels tell its calls apart."""

    def time(self, label: Label) -> AbstractContextManager[None]:
        """Around a call. One that raises isn't timed."""

    def read(self) -> list[tuple[Label, float]]:
        """The calls that have ended since it was last asked, in their order, with their seconds."""


class HostStopwatch(Generic[Label]):
    """Where a call has been computed when it returns."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """clock: gives seconds."""
        self._clock = clock
        self._ended: list[tuple[Label, float]] = []

    @contextmanager
    def time(self, label: Label) -> Iterator[None]:
        """See Stopwatch."""
        began = self._clock()
        yield
        self._ended.append((label, self._clock() - began))

    def read(self) -> list[tuple[Label, float]]:
        """See Stopwatch."""
        ended, self._ended = self._ended, []
        return ended


class CudaStopwatch(Generic[Label]):
    """Where a call returns while the current CUDA device computes it yet: the next ones then tell of it."""

    def __init__(self) -> None:
        self._calls: deque[tuple[Label, torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def time(self, label: Label) -> Iterator[None]:
        """See Stopwatch."""
        began, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        began.record()
        yield
        ended.record()
        self._calls.append((label, began, ended))

    def read(self) -> list[tuple[Label, float]]:
        """See Stopwatch."""
        read = []
        while self._calls and self._calls[0][2].query():
            label, began, ended = self._calls.popleft()
            read.append((label, began.elapsed_time(ended) / 1000))
        return read
