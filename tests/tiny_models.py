"""Stable Diffusion folders of the true architecture with a few thousand random weights, and LoRAs that fit
them.

`write_folder` makes what StableDiffusionPipeline.save_pretrained makes; `make_lora` a LoRA in canonical
layout.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

MAX_TOKENS = 12
TEXT_WIDTH = 8
SCHEDULE = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
}

UNETS: dict[str, dict[str, Any]] = {
    # 1x1 convolutions around the attention, one number of heads
    "sd15": {
        "block_out_channels": (4, 8),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": 2,
    },
    # linear projections, heads by block
    "sd2": {
        "block_out_channels": (4, 8),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "attention_head_dim": [2, 4],
        "use_linear_projection": True,
    },
    # as the embedded model: 8 latent channels, the prompt in the time embedding, scale and shift
    "emoji": {
        "in_channels": 8,
        "out_channels": 8,
        "block_out_channels": (4, 8),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 2,
        "resnet_time_scale_shift": "scale_shift",
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
    },
}


def make_pipeline(kind: str = "sd15", seed: int = 0) -> StableDiffusionPipeline:
    """kind: "sd15" (epsilon, PNDM), "sd2" (v-prediction, zero terminal SNR, trailing, DDIM), "emoji" (the
    same, 8 channels).
    """
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=TEXT_WIDTH,
        **UNETS[kind],
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=unet.config.in_channels,
        norm_num_groups=2,
        sample_size=16,
    )
    tokenizer = make_tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=TEXT_WIDTH,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=MAX_TOKENS,
            hidden_act="quick_gelu" if kind == "sd15" else "gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    if kind == "sd15":
        scheduler = PNDMScheduler(**SCHEDULE, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    else:
        scheduler = DDIMScheduler(
            **SCHEDULE,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            steps_offset=1,
            clip_sample=False,
        )
    pipeline = StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_tokenizer() -> CLIPTokenizer:
    """Letters as tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, merges=[], model_max_length=MAX_TOKENS
    )


def make_lora(unet: UNet2DConditionModel, *, rank: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """A LoRA on every attention projection, 1x1 convolution and time projection of the UNet, in canonical
    layout.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, module in unet.named_modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d) or module.weight[0, 0].numel() > 1:
            continue
        if not any(part in name for part in ("attentions", "conv_shortcut", "time_emb_proj")):
            continue
        d_out, d_in = module.weight.shape[:2]
        tensors[f"unet.{name}.lora_A.weight"] = torch.randn(rank, d_in, generator=generator)
        tensors[f"unet.{name}.lora_B.weight"] = 0.3 * torch.randn(d_out, rank, generator=generator)
    return tensors


def write_tiny_vae(folder: Path, channels: int = 4, **changes: Any) -> AutoencoderTiny:
    """A folder's tiny_vae/ with random weights; it fits a folder of this number of latent channels."""
    torch.manual_seed(1)
    vae = AutoencoderTiny(
        **{
            "encoder_block_out_channels": (4, 4),
            "decoder_block_out_channels": (4, 4),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
            "latent_channels": channels,
            **changes,
        }
    )
    vae.save_pretrained(folder / "tiny_vae")
    return vae


def write_folder(folder: Path, kind: str = "sd15") -> Path:
    """A StableDiffusionPipeline folder with random weights."""
    make_pipeline(kind).save_pretrained(folder)
    return folder
