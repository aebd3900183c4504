"""Step-level batching: at every denoising step waiting rows are admitted and finished rows released.

It doesn't know how a step is computed (the diffuser does), what a LoRA is, or any wire format.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from predictor.diffuser import Diffuser
from predictor.row import Row


class Engine:
    """Runs one diffuser in one worker thread; every other method belongs to the event loop that called `start`."""

    def __init__(self, diffuser: Diffuser, *, max_batch_size: int, max_queue_rows: int) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Begins to admit rows. Call it once, from the running event loop that will call `draw`."""
        raise NotImplementedError

    async def stop(self, drain_s: float) -> None:
        """Refuses new rows, lets accepted ones end for at most `drain_s` seconds, fails the rest with NotReady."""
        raise NotImplementedError

    async def draw(self, rows: Sequence[Row]) -> np.ndarray:
        """Draws rows of one size: uint8 [N, height, width, 3], RGB, in the order given.

        Cancelling the awaiting task frees its rows at the next step.
        Raises QueueFull, RequestTooLarge, InvalidInput, UnknownModel, NotReady, or DrawFailed when the computation failed.
        """
        raise NotImplementedError

    async def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Puts a LoRA in canonical layout in the pools between two steps. Raises weights.errors.IncompatibleLora."""
        raise NotImplementedError

    async def remove_adapter(self, name: str) -> None:
        """Refuses new rows with this LoRA, and drops it once the accepted ones have ended."""
        raise NotImplementedError

    @property
    def queue_depth(self) -> int:
        """Rows waiting for a place in the batch."""
        raise NotImplementedError

    @property
    def active_rows(self) -> int:
        """Rows being denoised."""
        raise NotImplementedError

    @property
    def last_step_at(self) -> float:
        """Heartbeat, time.monotonic(): now while idle, else the moment the current computation began; stale after a crash."""
        raise NotImplementedError

    @property
    def accepting(self) -> bool:
        """Whether `draw` takes rows: started, not stopping, not crashed."""
        raise NotImplementedError
