"""One LoRA that fits a UNet: read from its tensors, checked, and held in host memory.

Knows modules and shapes. It doesn't know where a LoRA is stored, nor which of them a row uses.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from predictor.diffusion.layers import is_pointwise
from weights.errors import IncompatibleLora

KEY = re.compile(r"unet\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")

Adaptable = nn.Linear | nn.Conv2d
"""A module that a LoRA may sit on; a convolution is 1x1."""


@dataclass(frozen=True, eq=False, slots=True)
class Adapter:
    """`pairs` maps module paths to A [r, d_in] and B [d_out, r], on the CPU in the UNet's dtype."""

    name: str
    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]


def adaptable_modules(unet: nn.Module) -> dict[str, Adaptable]:
    """The modules of a UNet that a LoRA may sit on, by their paths."""
    return {
        path: module
        for path, module in unet.named_modules()
        if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and is_pointwise(module))
    }


def read_adapter(name: str, tensors: Mapping[str, torch.Tensor], modules: Mapping[str, Adaptable]) -> Adapter:
    """Checks a LoRA in canonical layout against the modules of a UNet.

    Args:
        name: for the errors.
        tensors: "unet.<module>.lora_A.weight" [r, d_in] and "….lora_B.weight" [d_out, r].
        modules: as `adaptable_modules` found them.

    Raises:
        IncompatibleLora: a key, a shape or a value doesn't fit; names the key.
    """
    sides: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        match = KEY.fullmatch(key)
        if match is None:
            raise IncompatibleLora(f"LoRA {name}: not a key of the canonical layout", key=key)
        module = modules.get(match["module"])
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
        own = tensor.detach().to("cpu", module.weight.dtype)
        if not torch.isfinite(own).all():
            raise IncompatibleLora(
                f"LoRA {name}: has values that are no numbers in {module.weight.dtype}", key=key
            )
        sides.setdefault(match["module"], {})[match["side"]] = own
    for path, pair in sides.items():
        if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            shapes = {f"lora_{side}": list(tensor.shape) for side, tensor in sorted(pair.items())}
            raise IncompatibleLora(
                f"LoRA {name}: lora_A and lora_B don't match: {shapes}", key=f"unet.{path}"
            )
    return Adapter(name, {path: (pair["A"], pair["B"]) for path, pair in sides.items()})
