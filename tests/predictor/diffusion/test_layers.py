import copy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
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


SIZES = st.integers(1, 5)


@given(
    count=st.integers(1, 4),
    size=st.tuples(SIZES, SIZES),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    kernel=st.tuples(SIZES, SIZES),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    bias=st.booleans(),
    order=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
@torch.inference_mode()
def test_any_bound_convolution_gives_what_it_gave(
    count, size, channels, kernel, stride, padding, bias, order
):
    assume(all(k <= s + 2 * p for k, s, p in zip(kernel, size, padding, strict=True)))
    torch.manual_seed(0)
    layer = nn.Conv2d(*channels, kernel, stride, padding, bias=bias).to(memory_format=order)
    bound = copy.deepcopy(layer)
    bind(bound)
    x = torch.randn(count, channels[0], *size).to(memory_format=order)
    torch.testing.assert_close(bound(x), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("count", "size", "convolves"),
    [(1, 4, True), (2, 4, False), (8, 4, False), (8, 16, True)],
    ids=["a single image", "weights outweigh pixels", "still", "pixels outweigh weights"],
)
@torch.inference_mode()
def test_weights_are_not_brought_into_another_order_for_few_pixels(monkeypatch, count, size, convolves):
    calls = []
    conv2d = torch.conv2d
    monkeypatch.setattr(torch, "conv2d", lambda *a, **k: calls.append(a) or conv2d(*a, **k))
    layer = nn.Conv2d(32, 32, 3, padding=1)
    bind(layer)
    layer(torch.randn(count, 32, size, size))
    assert bool(calls) == convolves
