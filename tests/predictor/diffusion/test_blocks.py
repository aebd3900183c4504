import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from predictor.diffusion.blocks import Blocks
from tests.tiny_models import TEXT_WIDTH, UNETS, make_pipeline

PLAIN = {
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "cross_attention_dim": TEXT_WIDTH,
    **UNETS["sd15"],
}
ODD = {
    "a time embedding without activation": {"resnet_skip_time_act": True},
    "self attention to the prompt": {"only_cross_attention": True},
    "a middle without prompt": {"mid_block_type": "UNetMidBlock2D"},
    "attention outside of transformers": {
        "down_block_types": ("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    },
    "another activation": {"act_fn": "gelu"},
    "scaled residuals": {"resnet_out_scale_factor": 1.5, "mid_block_scale_factor": 2.0},
    "blocks of several layers": {"transformer_layers_per_block": 2},
    "no prompt at all": {
        "down_block_types": ("DownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "UpBlock2D"),
        "mid_block_type": None,
    },
}


def same(unet: UNet2DConditionModel, processor: object = None) -> Blocks:
    """Asserts that blocks give what diffusers gives, for one row and for three of another size."""
    torch.manual_seed(1)
    unet = unet.eval().requires_grad_(False)
    if processor is not None:
        unet.set_attn_processor(processor)
    replaced = copy.deepcopy(unet).to(memory_format=torch.channels_last)
    blocks = Blocks(replaced)
    for rows, size in ((1, (8, 8)), (3, (4, 6))):
        latents = torch.randn(rows, unet.config.in_channels, *size)
        timesteps = torch.linspace(900.0, 10.0, rows)
        states = torch.randn(rows, 12, TEXT_WIDTH)
        with torch.inference_mode():
            expected = unet(latents, timesteps, encoder_hidden_states=states).sample
            given = replaced(
                latents.to(memory_format=torch.channels_last),
                timesteps,
                encoder_hidden_states=blocks.project(states),
            ).sample
        torch.testing.assert_close(given, expected, rtol=0, atol=2e-5)
    return blocks


@pytest.mark.parametrize("kind", UNETS)
def test_blocks_give_what_diffusers_gives(kind):
    blocks = same(make_pipeline(kind).unet)
    assert blocks.project(torch.zeros(1, 12, TEXT_WIDTH)).shape[-1] > TEXT_WIDTH


@pytest.mark.parametrize("config", ODD.values(), ids=ODD)
def test_blocks_of_other_kinds_stay_diffusers_own(config):
    torch.manual_seed(0)
    same(UNet2DConditionModel(sample_size=8, **{**PLAIN, **config}))


def test_an_attention_that_someone_has_changed_stays_his():
    blocks = same(make_pipeline("sd15").unet, AttnProcessor())
    assert blocks.project(torch.zeros(1, 12, TEXT_WIDTH)).shape[-1] == TEXT_WIDTH
