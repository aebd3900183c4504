"""A model folder of Stable Diffusion 1.5's true shape, with random weights: speed doesn't depend on them.

`python -m benchmarks.sd15 FOLDER`, then `make bench-peers BENCH_ARGS="--model_dir FOLDER --device cuda …"`.
Its tokenizer is the embedded model's.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from weights.manifest import Manifest, Target
from weights.store import Store

TOKENIZER = Path(__file__).parents[1] / "weights" / "embedded" / "base" / "tokenizer"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TOKENS = 77
VOCABULARY = 49408
RANK = 16


def write_model(
    folder: Path, *, width: int = 320, text_width: int = 768, text_layers: int = 12, sample_size: int = 64
) -> None:
    """Writes base/ in float16 and loras/ with two LoRAs on all attention projections.

    Args:
        folder: new.
        width: channels of the UNet's first block, a multiple of 32; 320 is Stable Diffusion 1.5.
        text_width: of the text encoder's states; 768 likewise.
        text_layers: of the text encoder; 12 likewise.
        sample_size: of the latents' sides, an eighth of the picture's; 64 likewise.
    """
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=sample_size,
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        attention_head_dim=8,
        cross_attention_dim=text_width,
    )
    vae = AutoencoderKL(
        block_out_channels=[32 * max(1, width * factor // 80) for factor in (1, 2, 4, 4)],
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=8 * sample_size,
    )
    text = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=text_width,
        intermediate_size=4 * text_width,
        num_hidden_layers=text_layers,
        num_attention_heads=12,
        max_position_embeddings=TOKENS,
        projection_dim=text_width,
    )
    StableDiffusionPipeline(
        unet=unet,
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER, model_max_length=TOKENS),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            set_alpha_to_one=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(torch.float16).save_pretrained(folder / "base", safe_serialization=True)
    for name in ("one", "two"):
        _add_lora(Store(folder / "loras"), name, unet)


def _add_lora(store: Store, name: str, unet: UNet2DConditionModel) -> None:
    tensors, targets = {}, {}
    for path, module in unet.named_modules():
        if isinstance(module, nn.Linear) and path.endswith(ATTENTION):
            out, into = module.weight.shape
            tensors[f"unet.{path}.lora_A.weight"] = torch.randn(RANK, into) / into**0.5
            tensors[f"unet.{path}.lora_B.weight"] = torch.randn(out, RANK) * 0.01
            targets[path] = Target(RANK, float(RANK), (out, into))
    nothing = "0" * 64
    store.add(tensors, Manifest(name, 1, nothing, "2026-01-01T00:00:00Z", nothing, targets, source="random"))


def main() -> None:
    """Write the folder that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write_model(parser.parse_args().folder)


if __name__ == "__main__":
    main()
