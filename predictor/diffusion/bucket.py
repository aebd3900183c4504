"""UNet calls of one fixed shape, so that a row's bytes are the same whoever is drawn beside it.

Libraries choose kernels, and with them the order of sums, by the shapes of a call. Here the shapes of the
call that a row is in follow from the row alone: how many rows a call has is fixed for each size, missing ones
are made up for by copies, and each row multiplies its own LoRAs, padded to a power of two of pages. Rows that
need different numbers of pages are computed apart. It doesn't know guidance, solvers or what a UNet is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from predictor.diffusion.adapters import Choice

FEWEST_PAGES = 8
"""So that LoRAs of small ranks need no calls of their own."""


class Compute(Protocol):
    """A UNet call; `pages` is what each row's LoRAs are padded to."""

    def __call__(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        states: torch.Tensor,
        choices: Sequence[Choice],
        pages: int | None = None,
    ) -> torch.Tensor:
        """Latents [R, C, h, w], timesteps [R], states [R, tokens, width] → [R, C, h, w] float32."""


@dataclass(frozen=True, slots=True)
class _Call:
    rows: list[int]
    pages: int


class Buckets:
    """A Compute for any number of rows, which makes calls of fixed shapes of another one."""

    def __init__(self, compute: Compute, pages: Callable[[Choice], int], rows: int) -> None:
        """rows: in every call, where their places are found to make no difference; else fewer."""
        self._compute = compute
        self._pages = pages
        self._most = rows
        self._found: dict[tuple[torch.Size, int], int] = {}  # by a row's shape and padded pages
        self._needed = 0
        self._computed = 0

    @property
    def padding_share(self) -> float:
        """Of all rows computed, the share that were copies."""
        return 1 - self._needed / self._computed if self._computed else 0.0

    @property
    def sizes(self) -> tuple[int, ...]:
        """The rows of the calls, for each size and number of pages there were."""
        return tuple(self._found.values())

    def __call__(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        states: torch.Tensor,
        choices: Sequence[Choice],
        pages: int | None = None,
    ) -> torch.Tensor:
        """As Compute; `pages` is not looked at."""
        padded = [_padded(self._pages(choice)) for choice in choices]
        sizes = [
            self._size(number, latents[row], timesteps[row], states[row], choices[row])
            for row, number in enumerate(padded)
        ]
        output = torch.empty_like(latents)
        for call in _calls(padded, sizes):
            count = sizes[call.rows[0]]
            rows = call.rows + call.rows[:1] * (count - len(call.rows))
            part = self._compute(
                latents[rows], timesteps[rows], states[rows], [choices[row] for row in rows], call.pages
            )
            output[call.rows] = part[: len(call.rows)]
            self._needed += len(call.rows)
            self._computed += count
        return output

    def _size(
        self,
        pages: int,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        states: torch.Tensor,
        choice: Choice,
    ) -> int:
        """How many rows a call of this row's shape has: the most, or a half, a quarter, …, where all get the
        same bytes in all places. Threads, for one, may divide a call so that some rows are summed otherwise.
        """
        key = latents.shape, pages
        if key not in self._found:
            some = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents)
            count = self._most
            while count > 1:
                outputs = self._compute(
                    some.repeat(count, 1, 1, 1),
                    timestep.repeat(count),
                    states.repeat(count, 1, 1),
                    [choice] * count,
                    pages,
                )
                if all(torch.equal(outputs[0], output) for output in outputs[1:]):
                    break
                count //= 2
            self._found[key] = count
        return self._found[key]


def _padded(pages: int) -> int:
    """The next power of two; none stays none."""
    return max(FEWEST_PAGES, 1 << (pages - 1).bit_length()) if pages else 0


def _calls(pages: Sequence[int], sizes: Sequence[int]) -> list[_Call]:
    """Rows with equal pages and sizes together, in as few calls as that takes.

    Rows without LoRAs take what places are left among others: pages that are zero add exactly nothing.
    """
    kinds: dict[tuple[int, int], list[int]] = {}
    for row, kind in enumerate(zip(pages, sizes, strict=True)):
        kinds.setdefault(kind, []).append(row)
    bare = {size: rows for (number, size), rows in kinds.items() if not number}
    calls = []
    for (number, size), rows in sorted(kinds.items(), reverse=True):
        fill = bare.get(size, []) if number else []
        while rows:
            together, rows = rows[:size], rows[size:]
            while fill and len(together) < size:
                together.append(fill.pop())
            calls.append(_Call(together, number))
    return calls
