"""Stage `lora-<look>`: one LoRA that turns the base to a look, without style words in the prompt.

Its checkpoint is an accelerate state folder with `pytorch_lora_weights.bin` beside the optimizer and the
whole model, as the replaced system kept them; `weights import` reads it. Knows nothing of the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from weights.train.denoiser import Sampler, assemble, build_scheduler, denoising_loss, sample_sheet
from weights.train.run import Average, Run

RANK = 16
TARGETS = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "time_emb_proj"]


def train_lora(
    run: Run, sampler: Sampler, unet: UNet2DConditionModel, autoencoder: AutoencoderKL, batch: int = 32
) -> Path:
    """Train a LoRA of `unet` on the sampler's look; returns the accelerate state folder."""
    unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(r=RANK, lora_alpha=RANK, init_lora_weights="gaussian", target_modules=TARGETS)
    )
    unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    scheduler = build_scheduler()
    parameters = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=run.peak, betas=(0.9, 0.99), weight_decay=0.0)
    model, optimizer = run.accelerator.prepare(unet, optimizer)
    average = Average(unet, 0.99)
    share = batch // run.accelerator.num_processes

    def save_lora(_: list[Any], __: list[Any], folder: str) -> None:
        """Write the averaged LoRA into the state folder, in peft's own key layout."""
        average.swap()
        tensors = {
            f"unet.{key}": value.clone().cpu() for key, value in get_peft_model_state_dict(unet).items()
        }
        average.swap()
        torch.save(tensors, Path(folder) / "pytorch_lora_weights.bin")

    run.accelerator.register_save_state_pre_hook(save_lora)

    def sample(folder: Path) -> None:
        unet.eval()
        pipeline = assemble(unet, autoencoder, sampler.encoder, sampler.tokenizer).to(run.device)
        sample_sheet(pipeline, sampler.sheet, [None], folder / f"sheet-{run.done:06d}.png")
        unet.train()

    for _ in run.loop(
        optimizer, lambda _: denoising_loss(model, scheduler, sampler.batch(share)), average, sample
    ):
        pass
    return run.folder / "state"
