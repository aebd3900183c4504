import copy

import pytest
import torch
from torch import nn

from predictor.diffusion.layers import bind


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 6),
        nn.Linear(4, 6, bias=False),
        nn.Conv2d(4, 6, 1),
        nn.Conv2d(4, 6, 1, bias=False),
        nn.Conv2d(4, 6, 1, stride=2),
        nn.Conv2d(4, 6, 1, padding=1),
        nn.Conv2d(4, 6, 1, groups=2),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 3, padding="same", dilation=2),
        nn.Conv2d(4, 6, 3, stride=2, groups=2),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"),
        nn.GroupNorm(2, 4, eps=0.1),
        nn.GroupNorm(2, 4, affine=False),
        nn.LayerNorm(4, eps=0.1),
        nn.LayerNorm(4, bias=False),
        nn.SiLU(),
    ],
    ids=str,
)
@torch.inference_mode()
def test_a_bound_layer_gives_what_it_gave(layer):
    torch.manual_seed(0)
    layer = layer.requires_grad_(False)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    bound = copy.deepcopy(layer)
    bind(bound)
    image = torch.randn(3, 4, 5, 4)
    for x in (image, image.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(bound(x), layer(x))
        torch.testing.assert_close(bound.forward(x), layer(x))
