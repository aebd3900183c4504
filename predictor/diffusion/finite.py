"""Whether the rows of a step came out as numbers, told without making the host wait for the device.

It doesn't know rows, nor what becomes of one that did not.
"""

from dataclasses import dataclass
from typing import Self

import torch


@dataclass(frozen=True, eq=False, slots=True)
class Finite:
    """Says of each row of one step whether all its values are finite.

    On a GPU the answer is on its way while the host goes on; `read` waits for no more than that step.
    """

    flags: torch.Tensor  # bool [B], on the host once it is copied
    copied: torch.cuda.Event | None

    @classmethod
    def of(cls, values: torch.Tensor) -> Self:
        """Begins to look at values [B, …]."""
        flags = values.isfinite().flatten(1).all(1)
        if flags.device.type != "cuda":
            return cls(flags, None)
        host = torch.empty(flags.shape, dtype=torch.bool, pin_memory=True)
        host.copy_(flags, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record()
        return cls(host, copied)

    def read(self, place: int) -> bool:
        """Whether the row at this place is finite."""
        if self.copied is not None:
            self.copied.synchronize()
        return bool(self.flags[place])
