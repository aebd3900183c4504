"""LoRAs of many rows in one UNet call: stacked pools of A and B, from which each row takes its own.

The base weights are never touched. Nothing is global but the choice made by `select` for the calls that
follow, so an AdapterPool has one owner: the thread that runs the UNet. It doesn't know requests or where
LoRAs are stored.
"""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from weights.errors import IncompatibleLora

KEY = re.compile(r"unet\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

Choice = tuple[tuple[str, float], ...]  # a row's adapters with their weights; empty: the bare base
Slots = tuple[tuple[int, float], ...]  # the same by slot


class AdaptedLayer:
    """One linear module (nn.Linear, or a 1x1 nn.Conv2d) with the LoRA matrices of every adapter.

    A: [K, r, d_in], B: [K, d_out, r], zero where an adapter is narrower than r or doesn't reach this module.
    Slot 0 is all zero: the bare base.
    """

    def __init__(self, module: nn.Linear | nn.Conv2d) -> None:
        weight = module.weight
        self.convolution = isinstance(module, nn.Conv2d)
        self.A = torch.zeros(1, 0, weight.shape[1], dtype=weight.dtype, device=weight.device)
        self.B = torch.zeros(1, weight.shape[0], 0, dtype=weight.dtype, device=weight.device)
        self.reached: set[int] = set()
        self._down: torch.Tensor | None = None  # [d_in, r] for all rows alike, or [N, d_in, r]
        self._up: torch.Tensor | None = None  # [r, d_out] or [N, r, d_out], times the weight
        module.register_forward_hook(self._add_delta)

    def put(self, slot: int, a: torch.Tensor, b: torch.Tensor) -> None:
        """Fills a slot with a [r, d_in] and b [d_out, r], widening the pools where it must."""
        slots, rank = max(slot + 1, self.A.shape[0]), max(a.shape[0], self.A.shape[1])
        more_slots, more_rank = slots - self.A.shape[0], rank - self.A.shape[1]
        if more_slots or more_rank:
            self.A = nn.functional.pad(self.A, (0, 0, 0, more_rank, 0, more_slots))
            self.B = nn.functional.pad(self.B, (0, more_rank, 0, 0, 0, more_slots))
        self.clear(slot)
        self.A[slot, : a.shape[0]] = a
        self.B[slot, :, : b.shape[1]] = b
        self.reached.add(slot)

    def clear(self, slot: int) -> None:
        """Makes a slot zero again."""
        if slot < self.A.shape[0]:
            self.A[slot] = 0
            self.B[slot] = 0
        self.reached.discard(slot)

    def select(self, rows: Sequence[Slots]) -> None:
        """Chooses the matrices of the rows to come; those of a mix are one of more rank."""
        own = [[(slot, weight) for slot, weight in row if slot in self.reached] for row in rows]
        width = max(map(len, own), default=0)
        if not width:
            self._down = self._up = None
            return
        if all(row == own[0] for row in own):
            own = own[:1]
        padded = [row + [(0, 0.0)] * (width - len(row)) for row in own]
        index = torch.tensor([[slot for slot, _ in row] for row in padded], device=self.A.device)
        weights = torch.tensor([[weight for _, weight in row] for row in padded]).to(self.B)
        down = self.A[index].flatten(1, 2).transpose(1, 2)
        up = (self.B[index] * weights[..., None, None]).transpose(2, 3).flatten(1, 2)
        self._down, self._up = (down[0], up[0]) if len(own) == 1 else (down, up)

    def _add_delta(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor | None:
        if self._down is None or self._up is None:
            return None
        x, y = inputs[0], output
        if self.convolution:
            x, y = x.permute(0, 2, 3, 1), y.permute(0, 2, 3, 1)
        # In place: the output is fresh, and nobody else has seen it.
        if self._down.ndim == 2:
            flat = y.reshape(-1, y.shape[-1])
            flat.addmm_(x.reshape(-1, x.shape[-1]) @ self._down, self._up)
        else:
            flat = y.reshape(len(y), -1, y.shape[-1])
            flat.baddbmm_(torch.bmm(x.reshape(len(x), -1, x.shape[-1]), self._down), self._up)
        result = flat.view(y.shape)
        return result.permute(0, 3, 1, 2) if self.convolution else result


class AdapterPool:
    """The adapters of one UNet, by name; they come and go while it runs."""

    def __init__(self, unet: nn.Module) -> None:
        self._modules: dict[str, nn.Linear | nn.Conv2d] = {
            name: module
            for name, module in unet.named_modules()
            if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and _is_pointwise(module))
        }
        self._layers: dict[str, AdaptedLayer] = {}
        self._slots: dict[str, int] = {}
        self._selected: tuple[Choice, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters in the pool, in the order they came."""
        return tuple(self._slots)

    def add(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Adds an adapter given in canonical layout: unet.<module>.lora_A.weight [r, d_in], .lora_B.weight
        [d_out, r].

        Raises IncompatibleLora, naming key and shapes, before anything has changed; ValueError if the name
        is taken.
        """
        if name in self._slots:
            raise ValueError(f"LoRA {name} is already loaded")
        pairs = self._pair(name, tensors)
        taken = set(self._slots.values())
        slot = next(number for number in range(1, len(taken) + 2) if number not in taken)
        for path, (a, b) in pairs.items():
            if path not in self._layers:
                self._layers[path] = AdaptedLayer(self._modules[path])
            self._layers[path].put(slot, a, b)
        self._slots[name] = slot
        self._forget_selection()

    def remove(self, name: str) -> None:
        """Frees an adapter's slot. Raises KeyError."""
        slot = self._slots.pop(name)
        for layer in self._layers.values():
            layer.clear(slot)
        self._forget_selection()

    def select(self, choices: Sequence[Choice]) -> None:
        """Sets the adapters and weights of every row of the next UNet calls. Raises KeyError for an unknown
        adapter.
        """
        wanted = tuple(choices)
        if wanted == self._selected:
            return
        rows = [tuple((self._slots[name], weight) for name, weight in row if weight) for row in wanted]
        self._forget_selection()
        for layer in self._layers.values():
            layer.select(rows)
        self._selected = wanted

    def _forget_selection(self) -> None:
        self._selected = ()
        for layer in self._layers.values():
            layer.select(())

    def _pair(
        self, name: str, tensors: Mapping[str, torch.Tensor]
    ) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        sides: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            match = KEY.fullmatch(key)
            if match is None:
                raise IncompatibleLora(f"LoRA {name}: not a key of the canonical layout", key=key)
            module = self._modules.get(match["module"])
            if module is None:
                raise IncompatibleLora(
                    f"LoRA {name}: this UNet has no such linear module or 1x1 convolution", key=key
                )
            axis, width = (1, module.weight.shape[1]) if match["side"] == "A" else (0, module.weight.shape[0])
            if tensor.ndim != 2 or tensor.shape[axis] != width:
                shape = f"[r, {width}]" if match["side"] == "A" else f"[{width}, r]"
                raise IncompatibleLora(
                    f"LoRA {name}: shape {list(tensor.shape)} where the UNet needs {shape}", key=key
                )
            sides.setdefault(match["module"], {})[match["side"]] = tensor
        for path, pair in sides.items():
            if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
                shapes = {f"lora_{side}": list(tensor.shape) for side, tensor in sorted(pair.items())}
                raise IncompatibleLora(
                    f"LoRA {name}: lora_A and lora_B don't match: {shapes}", key=f"unet.{path}"
                )
        return {path: (pair["A"], pair["B"]) for path, pair in sides.items()}


def _is_pointwise(module: nn.Conv2d) -> bool:
    return module.kernel_size == (1, 1) and module.stride == (1, 1) and module.groups == 1
