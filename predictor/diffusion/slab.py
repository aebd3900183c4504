"""The LoRA matrices of some modules in one tensor on the device, and the products with them.

A page is one rank of a LoRA: a row of A of every module, then a column of B of every module. A LoRA of rank r
takes any r free pages, so ranks need no padding, a mix is no more than more pages, and the matrices that a
batch uses are gathered for all modules at once. It doesn't know LoRAs by name, nor which are to stay here.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from predictor.diffusion.adapter import Adaptable
from predictor.diffusion.layers import replace_forward
from predictor.diffusion.transfer import to_device

Page = tuple[int, float]  # its number and the weight of its delta
FIRST_PAGES = 16


class Slab:
    """Pages of the same modules; page 0 is all zero and belongs to no one."""

    def __init__(self, modules: Mapping[str, Adaptable]) -> None:
        """The modules are left alone until `attach`."""
        weight = next(iter(modules.values())).weight
        self._modules = dict(modules)
        # All of A first: weights are multiplied with B, which lies in one piece then.
        self._a_width = sum(module.weight.shape[1] for module in modules.values())
        self._columns: dict[str, tuple[slice, slice]] = {}
        in_place, out_place = 0, self._a_width
        for path, module in modules.items():
            d_out, d_in = module.weight.shape[:2]
            self._columns[path] = slice(in_place, in_place + d_in), slice(out_place, out_place + d_out)
            in_place, out_place = in_place + d_in, out_place + d_out
        self._width = out_place
        self._pages = torch.zeros(1, self._width, dtype=weight.dtype, device=weight.device)
        self._free: list[int] = []
        self._chosen = self._pages.new_empty(0)  # grows only, so that its address seldom changes
        self._moved = 0  # how often its address did
        self._shape: tuple[int, int] | None = None
        self._deltas: dict[str, _Delta] = {}

    @property
    def paths(self) -> tuple[str, ...]:
        """The modules."""
        return tuple(self._modules)

    @property
    def capacity(self) -> int:
        """Pages there is room for."""
        return len(self._pages) - 1

    @property
    def used(self) -> int:
        """Pages that are taken."""
        return self.capacity - len(self._free)

    @property
    def layout(self) -> tuple[int, int, int] | None:
        """Where the chosen pages are read and in what shape: equal for calls that read the same addresses.
        None where none are chosen.
        """
        return None if self._shape is None else (self._moved, *self._shape)

    def attach(self) -> None:
        """From now on the modules' outputs have the deltas that are chosen."""
        if not self._deltas:
            self._deltas = {path: _Delta(module) for path, module in self._modules.items()}

    def pack(self, pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]], rank: int) -> torch.Tensor:
        """[rank, width] on the CPU, for `load`; zero where a module has no pair or one of less rank."""
        device = self._pages.device
        packed = torch.zeros(rank, self._width, dtype=self._pages.dtype, pin_memory=device.type == "cuda")
        for path, (a, b) in pairs.items():
            columns_a, columns_b = self._columns[path]
            packed[: len(a), columns_a] = a
            packed[: len(a), columns_b] = b.T
        return packed

    def load(self, packed: torch.Tensor) -> list[int]:
        """Copies what `pack` made to free pages and gives their numbers; doubles the room where it must."""
        if len(packed) > len(self._free):
            room = max(FIRST_PAGES, 2 * self.capacity, self.used + len(packed))
            pages = self._pages.new_zeros(room + 1, self._width)
            pages[: len(self._pages)] = self._pages
            self._free += range(len(self._pages), room + 1)
            self._pages = pages
        packed = packed.to(self._pages.device, non_blocking=True)
        numbers = [self._free.pop() for _ in range(len(packed))]
        self._pages.index_copy_(0, to_device(torch.tensor(numbers), self._pages.device), packed)
        return numbers

    def release(self, numbers: Sequence[int]) -> None:
        """Makes pages free."""
        self._free += numbers

    def choose(self, groups: Sequence[Sequence[Page]], at_least: int = 0) -> None:
        """Sets the pages of the calls to come, whose rows are as many groups of one length.

        All are padded to the longest, or to `at_least` pages where any are chosen. They are copied: what
        becomes of the pages afterwards changes nothing.
        """
        rank = max(map(len, groups), default=0)
        if rank:
            rank = max(rank, at_least)
        else:
            if self._shape is not None:
                self._shape = None
                for delta in self._deltas.values():
                    delta.clear()
            return
        padded = [page for group in groups for page in [*group, *[(0, 0.0)] * (rank - len(group))]]
        device = self._pages.device
        index = to_device(torch.tensor([number for number, _ in padded]), device)
        weights = to_device(torch.tensor([weight for _, weight in padded]), device)
        if len(self._chosen) < len(padded) * self._width:
            self._chosen = self._pages.new_empty(2 * len(padded) * self._width)
            self._moved += 1
            self._shape = None
        chosen = self._chosen[: len(padded) * self._width].view(len(padded), self._width)
        torch.index_select(self._pages, 0, index, out=chosen)
        chosen[:, self._a_width :].mul_(weights[:, None])
        if self._shape != (len(groups), rank):
            self._shape = len(groups), rank
            matrices = chosen.view(len(groups), rank, self._width)
            for path, delta in self._deltas.items():
                columns_a, columns_b = self._columns[path]
                delta.set(matrices[:, :, columns_a].transpose(1, 2), matrices[:, :, columns_b])


class _Delta:
    """Adds x · down · up to the output of one module."""

    def __init__(self, module: Adaptable) -> None:
        self._convolution = isinstance(module, nn.Conv2d)
        self._down: torch.Tensor | None = None  # [d_in, R] for all rows alike, or [groups, d_in, R]
        self._up: torch.Tensor | None = None  # [R, d_out] or [groups, R, d_out]
        self._forward = module.forward
        replace_forward(module, self.forward)

    def set(self, down: torch.Tensor, up: torch.Tensor) -> None:
        """down: [groups, d_in, R], up: [groups, R, d_out]; they are read at each call."""
        self._down, self._up = (down[0], up[0]) if len(down) == 1 else (down, up)

    def clear(self) -> None:
        """Leaves the output as it is."""
        self._down = self._up = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What the module gives, and the delta."""
        y = self._forward(x)
        if self._down is None or self._up is None:
            return y
        if self._convolution:
            x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
        # In place: the output is fresh, and nobody else has seen it.
        if self._down.ndim == 2:
            flat = y.reshape(-1, y.shape[-1])
            flat.addmm_(x.reshape(-1, x.shape[-1]) @ self._down, self._up)
        else:
            groups = len(self._down)
            flat = y.reshape(groups, -1, y.shape[-1])
            flat.baddbmm_(torch.bmm(x.reshape(groups, -1, x.shape[-1]), self._down), self._up)
        result = flat.view(y.shape)
        return result.permute(0, 3, 1, 2) if self._convolution else result
