"""One LoRA is checked against the UNet before anything is done with it."""

import pytest
import torch

from predictor.diffusion.adapters import AdapterPool
from tests.predictor.diffusion.small_net import inputs, make_net, make_pool
from weights.errors import IncompatibleLora

A, B = "unet.linear.lora_A.weight", "unet.linear.lora_B.weight"


@pytest.mark.parametrize(
    ("tensors", "key", "says"),
    [
        ({"unet.nowhere.lora_A.weight": torch.zeros(2, 5)}, "unet.nowhere.lora_A.weight", "no such"),
        ({"unet.wide.lora_A.weight": torch.zeros(2, 3)}, "unet.wide.lora_A.weight", "no such"),
        ({"unet.linear.lora_mid.weight": torch.zeros(2, 5)}, "unet.linear.lora_mid.weight", "canonical"),
        ({"text_encoder.linear.lora_A.weight": torch.zeros(2, 5)}, "text_encoder.linear", "canonical"),
        ({A: torch.zeros(2, 6), B: torch.zeros(4, 2)}, A, r"[2, 6] where the UNet needs [r, 5]"),
        ({A: torch.zeros(2, 5), B: torch.zeros(5, 2)}, B, r"[5, 2] where the UNet needs [4, r]"),
        ({A: torch.zeros(2, 5, 1, 1), B: torch.zeros(4, 2)}, A, "[2, 5, 1, 1]"),
        ({A: torch.zeros(2, 5), B: torch.zeros(4, 3)}, "unet.linear", "don't match"),
        ({A: torch.zeros(2, 5)}, "unet.linear", "don't match"),
        ({A: torch.full((2, 5), torch.nan), B: torch.zeros(4, 2)}, A, "no numbers"),
        ({A: torch.zeros(2, 5), B: torch.full((4, 2), torch.inf)}, B, "no numbers"),
    ],
)
def test_a_lora_that_does_not_fit_is_named_by_key_and_shapes(tensors, key, says):
    net, pool = make_pool()
    with pytest.raises(IncompatibleLora) as caught:
        pool.prepare("d@1", tensors)
    assert key in str(caught.value)
    assert says in str(caught.value)
    assert "d@1" not in pool.names
    assert torch.equal(net(*inputs(1)), make_net()(*inputs(1)))


def test_values_must_be_numbers_in_the_models_dtype():
    pool = AdapterPool(make_net().half())
    with pytest.raises(IncompatibleLora, match=r"no numbers in torch\.float16"):
        pool.prepare("d@1", {A: torch.full((2, 5), 1e6), B: torch.zeros(4, 2)})
