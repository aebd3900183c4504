"""How many CPU threads compute: all of them, or one while other programs want the cores.

The threads of a call wait for each other hundreds of times, each spinning on its core. When one is kept from
its core all of them wait, each time for as long as the kernel gives the core away, and a step takes ten times
as long as with one thread alone. It doesn't know what is computed, nor torch.
"""

from collections.abc import Callable

MISSED_CORES = 0.5
"""A call that got so many cores less than it has threads was hindered: with cores of their own all threads
run all the time, for also to wait is to run. Of one thread it is half of that.
"""

PATIENCE = 3
"""Hindered calls one after the other before one thread takes over: a process that was idle for long reads its
memory in again, and waits for that too.
"""

FIRST_PAUSE_S = 1.0
"""How long one thread computes before all are tried again; twice as long after every try that fails."""

LAST_PAUSE_S = 60.0


class ThreadPolicy:
    """At most `threads`; `clock` gives seconds."""

    def __init__(self, threads: int, clock: Callable[[], float]) -> None:
        self._threads = threads
        self._clock = clock
        self._hindered = 0
        self._pause = FIRST_PAUSE_S
        self._alone_until = float("-inf")

    @property
    def threads(self) -> int:
        """How many the next call should have."""
        return 1 if self._clock() < self._alone_until else self._threads

    def observe(self, threads: int, seconds: float, cpu_seconds: float) -> None:
        """A call with so many threads took so long, and so much of the cores' time."""
        if seconds <= 0 or self._threads == 1:
            return
        hindered = threads - cpu_seconds / seconds >= min(MISSED_CORES, threads * MISSED_CORES / 2)
        if threads == 1:  # it tells of the other cores only that they are wanted, if its own is
            if hindered:
                self._alone_until = max(self._alone_until, self._clock() + FIRST_PAUSE_S)
            return
        if not hindered:
            self._hindered, self._pause = 0, FIRST_PAUSE_S
            return
        self._hindered += 1
        if self._hindered >= PATIENCE:
            self._hindered = 0
            self._alone_until = self._clock() + self._pause
            self._pause = min(2 * self._pause, LAST_PAUSE_S)
