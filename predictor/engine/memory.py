"""How much the device's memory holds at once: less after it has run out, more again while all goes well.

It doesn't know what is computed, nor on which device.
"""

import torch

FIRST_PATIENCE = 50
"""Calls at the limit before it is raised for the first time; twice as many after every failure."""

LAST_PATIENCE = 10_000


OTHER_WORDS = (
    "can't allocate memory",  # of the host
    "CUDA error: out of memory",  # pinned, or what a library wanted
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class MemoryLimit:
    """A limit on the size of one kind of call, in any unit that memory grows with (rows times pixels)."""

    def __init__(self) -> None:
        self.size: float | None = None
        """None: memory has never run out, or not for long enough."""
        self._failed_at = 0.0
        self._patience = FIRST_PATIENCE
        self._good = 0

    def allows(self, size: float) -> bool:
        """Whether a call of this size is worth a try."""
        return self.size is None or size <= self.size

    def ran_out(self, size: float) -> None:
        """A call of this size has failed."""
        if self.size is not None:
            self._patience = min(2 * self._patience, LAST_PATIENCE)
        self.size = size / 2
        self._failed_at = size
        self._good = 0

    def went_well(self, size: float) -> None:
        """A call of this size has succeeded: enough of them near the limit raise it by half.

        Beyond what has failed there is none any more.
        """
        if self.size is None or size < self.size / 2:
            return
        self._good += 1
        if self._good >= self._patience:
            self._good = 0
            self.size = None if self.size >= self._failed_at else self.size * 1.5


def is_out_of_memory(error: BaseException) -> bool:
    """Of the GPU or of the host: torch has a class of its own only for what its own allocator asked for."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in OTHER_WORDS
    )
