"""What a server needs to know about the work behind it."""

from typing import Protocol


class Backend(Protocol):
    """Starts with the server, says how it is, and is drained at the end."""

    @property
    def alive(self) -> bool:
        """False when a restart of the process is the only remedy: the liveness probe."""

    @property
    def healthy(self) -> bool:
        """Whether it can take work now: a part of the readiness probe."""

    async def start(self) -> None:
        """Return once the first request can be served; an exception ends the process with exit code 1."""

    async def stop(self, drain_s: float) -> None:
        """End, after the last request has been answered; what is left of its work gets `drain_s` seconds."""
