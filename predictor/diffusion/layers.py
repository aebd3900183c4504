"""A network's layers, bound to torch's functions: `layer.forward(x)` without a look into the module.

They stay modules with their weights where they are; only `forward` is replaced. A 1x1 convolution becomes the
matrix product that it is, and so does, on a CPU, any that has more weights than pixels. It doesn't know what
the network is for.
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
            convolve = partial(
                torch.conv2d,
                weight=module.weight,
                bias=module.bias,
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
                groups=module.groups,
            )
            return _Convolution(module, convolve).forward if _is_product_on_cpu(module) else convolve
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


class _Convolution:
    """One that becomes a product of its weights and the pixels around each pixel, where it has more weights
    than a batch has pixels in and out.

    oneDNN, which convolves batches on a CPU, brings the weights into an order of its own at each call, which
    takes most of the time there. Of a single image torch makes such a product by itself.
    """

    def __init__(self, module: nn.Conv2d, convolve: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._convolve = convolve
        self._weight = module.weight.permute(0, 2, 3, 1).flatten(1)  # a view of channels_last weights
        self._bias = module.bias
        self._kernel, self._stride = module.kernel_size, module.stride
        assert not isinstance(module.padding, str), "see _is_product_on_cpu"
        above, beside = module.padding
        self._padding = (0, 0, beside, beside, above, above)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, C, h, w] → [B, out, h', w']"""
        count, channels, height, width = x.shape
        pixels = count * height * width * (channels + len(self._weight))
        if count == 1 or pixels >= self._weight.numel():
            return self._convolve(x)
        padded = F.pad(x.permute(0, 2, 3, 1), self._padding)
        rows = padded.unfold(1, self._kernel[0], self._stride[0])
        windows = rows.unfold(2, self._kernel[1], self._stride[1])  # [B, h', w', C, kernel's h, w]
        around = windows.permute(0, 1, 2, 4, 5, 3).flatten(3)
        return F.linear(around, self._weight, self._bias).permute(0, 3, 1, 2)


def _is_product_on_cpu(module: nn.Conv2d) -> bool:
    return (
        module.weight.device.type == "cpu"
        and module.groups == 1
        and module.dilation == (1, 1)
        and not isinstance(module.padding, str)
    )
