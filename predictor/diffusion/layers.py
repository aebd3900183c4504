"""A network's layers, bound to torch's functions: `layer.forward(x)` without a look into the module.

They stay modules with their weights where they are; only `forward` is replaced. A 1x1 convolution becomes the
matrix product that it is. It doesn't know what the network is for.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F


def bind(network: nn.Module) -> None:
    """Binds the layers it knows; to be called where the weights have come to their device."""
    for module in network.modules():
        forward = _bound(module)
        if forward is not None:
            replace_forward(module, forward)


def replace_forward(module: nn.Module, forward: Callable[..., object]) -> None:
    """From now on `module(x)` and `module.forward(x)` are `forward(x)`."""
    module.forward = forward


def is_pointwise(module: nn.Conv2d) -> bool:
    """Whether a convolution is a linear layer over pixels."""
    return (
        module.kernel_size == (1, 1)
        and module.stride == (1, 1)
        and module.padding == (0, 0)
        and module.groups == 1
    )


def _bound(module: nn.Module) -> Callable[..., torch.Tensor] | None:
    match module:
        case nn.Linear():
            return partial(F.linear, weight=module.weight, bias=module.bias)
        case nn.Conv2d() if is_pointwise(module):
            return partial(_pointwise, weight=module.weight[:, :, 0, 0], bias=module.bias)
        case nn.Conv2d() if module.padding_mode == "zeros":
            return partial(
                torch.conv2d,
                weight=module.weight,
                bias=module.bias,
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
                groups=module.groups,
            )
        case nn.GroupNorm():
            return partial(
                torch.group_norm,
                num_groups=module.num_groups,
                weight=module.weight,
                bias=module.bias,
                eps=module.eps,
            )
        case nn.LayerNorm():
            return partial(
                torch.layer_norm,
                normalized_shape=module.normalized_shape,
                weight=module.weight,
                bias=module.bias,
                eps=module.eps,
            )
    return None


def _pointwise(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)
