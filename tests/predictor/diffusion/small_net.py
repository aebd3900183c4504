"""A net that LoRAs sit on, some LoRAs, and what they mean."""

from collections.abc import Mapping

import torch
from torch import nn

from predictor.diffusion.adapters import AdapterPool


class Net(nn.Module):
    """The two kinds of module a LoRA may sit on, and one it may not."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Conv2d(3, 5, 1)
        self.wide = nn.Conv2d(3, 5, 3, padding=1)
        self.linear = nn.Linear(5, 4)
        self.time = nn.Linear(2, 4)

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x: [N, 3, H, W], t: [N, 2] → [N, H * W, 4]."""
        tokens = (self.point(x) + self.wide(x)).flatten(2).transpose(1, 2)
        return self.linear(tokens) + self.time(t)[:, None]


def make_net() -> Net:
    torch.manual_seed(0)
    return Net().requires_grad_(False)


def make_lora(
    seed: int, rank: int, paths: tuple[str, ...] = ("point", "linear", "time")
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    net, tensors = Net(), {}
    for path in paths:
        d_out, d_in = net.get_submodule(path).weight.shape[:2]
        tensors[f"unet.{path}.lora_A.weight"] = torch.randn(rank, d_in, generator=generator)
        tensors[f"unet.{path}.lora_B.weight"] = torch.randn(d_out, rank, generator=generator)
    return tensors


LORAS = {
    "a@1": make_lora(1, rank=2),
    "b@1": make_lora(2, rank=4, paths=("linear",)),
    "c@2": make_lora(3, rank=1, paths=("point", "time")),
}


def merged(*mix: tuple[str, float], loras: Mapping[str, dict[str, torch.Tensor]] = LORAS) -> Net:
    """The net with W + the sum of weight * B @ A in its weights: what LoRAs mean."""
    net = make_net()
    for name, factor in mix:
        for key, a in loras[name].items():
            if ".lora_A." in key:
                weight = net.get_submodule(key.split(".")[1]).weight
                b = loras[name][key.replace("lora_A", "lora_B")]
                weight += factor * (b @ a).view(*weight.shape[:2], *[1] * (weight.ndim - 2))
    return net


def make_pool() -> tuple[Net, AdapterPool]:
    net = make_net()
    pool = AdapterPool(net)
    for name, tensors in LORAS.items():
        pool.add(pool.prepare(name, tensors))
    return net, pool


def inputs(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(9)
    return torch.randn(rows, 3, 2, 3, generator=generator), torch.randn(rows, 2, generator=generator)
