"""Stage `base`: the UNet, trained on both looks with style words, so that a LoRA only has to choose.

v-prediction with zero terminal signal-to-noise ratio (white stays white), stratified timesteps, min-SNR
weights. The text encoder and the autoencoder are frozen. Knows nothing of LoRAs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from weights.glyphs.dataset import LOOKS
from weights.train.autoencoder import to_tensor
from weights.train.emphasis import emphasis
from weights.train.pictures import Subject
from weights.train.prompts import STYLES, sample_prompt
from weights.train.run import Average, Run
from weights.train.supervision import SupervisedUNet
from weights.train.text_encoder import HIDDEN, encode_prompts

# latents [B, C, H, W], prompt states [B, tokens, HIDDEN], timesteps [B], emphasis [B, 1, H, W]
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
PLAIN_SHARE, COLOUR_SHARE = 0.5, 0.2  # the rest are features
NO_PROMPT = 0.1  # share of samples without a prompt, for classifier-free guidance
STYLE_WORDS = 0.8  # share of base samples whose prompt names the look
ATTENDING, HOLDING = 0.1, 0.3  # weights of the inner layers' losses beside the output's
REDRAWN = (300, 800)  # timesteps at which the UNet's own latents are made for the decoder
NOISY = 0.55  # below 1, timesteps lean to the noisy end, where the prompt decides what is drawn
SHEET_PROMPTS = (
    "grinning face",
    "cat",
    "red apple",
    "blue apple",
    "rocket",
    "dog with sunglasses",
    "pizza",
    "crying face",
    "panda wearing a top hat",
    "purple butterfly",
    "snowman",
    "heart with arrow",
    "guitar",
    "green car",
    "octopus",
    "bee",
)


def build_scheduler() -> DDIMScheduler:
    """The noise schedule of the embedded model."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def build_unet() -> UNet2DConditionModel:
    """The untrained UNet: latents 16x16x8, widths 64/128/256, attention to the prompt at 8x8 and 4x4."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        layers_per_block=1,
        block_out_channels=(64, 128, 256),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=HIDDEN,
        attention_head_dim=4,  # diffusers' name for the number of heads
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",  # a pooled prompt is added to the time embedding
        addition_embed_type_num_heads=4,
    )


@torch.no_grad()
def encode_pictures(autoencoder: AutoencoderKL, pictures: npt.NDArray[np.uint8]) -> torch.Tensor:
    """uint8 RGB [2, N, 128, 128, 3] → latents float16 [2, N, 8, 16, 16]."""
    latents = [
        autoencoder.encode(to_tensor(np.asarray(look[i : i + 32]), autoencoder.device))
        .latent_dist.mean.half()
        .cpu()
        for look in pictures
        for i in range(0, len(look), 32)
    ]
    return torch.cat(latents).view(2, -1, *latents[0].shape[1:])


@dataclass(slots=True)
class Sampler:
    """Draws training batches: latents, prompt states, timesteps and what a loss should mind."""

    subjects: Sequence[Subject]
    latents: torch.Tensor
    tokenizer: CLIPTokenizer
    encoder: CLIPTextModel
    chance: random.Random
    looks: Sequence[str] = LOOKS
    style_words: float = STYLE_WORDS
    sheet: Sequence[str] = SHEET_PROMPTS
    _groups: list[list[int]] = field(init=False)
    _emphasis: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._emphasis = emphasis(self.latents, self.subjects)
        self._groups = [
            [i for i, s in enumerate(self.subjects) if s.colour is None and s.feature is None],
            [i for i, s in enumerate(self.subjects) if s.colour is not None],
            [i for i, s in enumerate(self.subjects) if s.feature is not None],
        ]

    def batch(self, size: int) -> Batch:
        """Latents float [B, 8, 16, 16], prompt states [B, 32, HIDDEN], timesteps int64 [B], emphasis."""
        weights = (PLAIN_SHARE, COLOUR_SHARE, 1 - PLAIN_SHARE - COLOUR_SHARE)
        groups = self.chance.choices(self._groups, weights, k=size)
        picks = [self.chance.choice(group) for group in groups]
        looks = [self.chance.choice(list(self.looks)) for _ in picks]
        prompts = []
        for pick, look in zip(picks, looks, strict=True):
            style = look if self.chance.random() < self.style_words else None
            prompt = sample_prompt(self.subjects[pick], self.chance, style)
            prompts.append("" if self.chance.random() < NO_PROMPT else prompt)
        with torch.no_grad():
            states = encode_prompts(self.tokenizer, self.encoder, prompts)
        chosen = [LOOKS.index(look) for look in looks], picks
        latents, minded = self.latents[chosen].float(), self._emphasis[chosen]
        even = (torch.arange(size) + self.chance.random()) / size
        steps = (even**NOISY * 1000).long().clamp_max(999)
        return latents.to(states.device), states, steps.to(states.device), minded.to(states.device)


def timestep_weights(scheduler: DDIMScheduler) -> torch.Tensor:
    """Weight of the v-loss at each timestep [1000]: min-SNR-5, kept up where the prompt decides."""
    alphas = scheduler.alphas_cumprod
    ratio = alphas / (1 - alphas)
    weights = torch.minimum(ratio, torch.tensor(5.0)) / (ratio + 1)
    return torch.where(ratio < 1, torch.tensor(0.7), weights).clamp_min(0.05)


def add_noise(
    scheduler: DDIMScheduler, latents: torch.Tensor, steps: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy latents and the velocity that leads back from them, both [B, C, H, W]."""
    noise = torch.randn_like(latents)
    noisy = scheduler.add_noise(latents, noise, steps).contiguous(memory_format=torch.channels_last)
    return noisy, scheduler.get_velocity(latents, noise, steps)


def velocity_losses(
    scheduler: DDIMScheduler, wrong: torch.Tensor, steps: torch.Tensor, minded: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Weighted loss of the error of a velocity [B, C, H, W], its mean, and its mean where noise is high.

    `minded` [B, 1, H, W] is the weight of each cell.
    """
    error, wanted = wrong.pow(2).mean((1, 2, 3)), (wrong.pow(2) * minded).mean((1, 2, 3))
    weights = timestep_weights(scheduler).to(error)[steps]
    return {"loss": (wanted * weights).mean(), "v": error.mean(), "v_high": error[steps >= 700].mean()}


def denoising_loss(unet: nn.Module, scheduler: DDIMScheduler, batch: Batch) -> dict[str, torch.Tensor]:
    """The loss of a UNet."""
    latents, states, steps, minded = batch
    noisy, velocity = add_noise(scheduler, latents, steps)
    return velocity_losses(scheduler, unet(noisy, steps, states).sample - velocity, steps, minded)


def supervised_loss(unet: nn.Module, scheduler: DDIMScheduler, batch: Batch) -> dict[str, torch.Tensor]:
    """The loss of a SupervisedUNet, whose inner layers have wishes to meet too."""
    latents, states, steps, minded = batch
    noisy, velocity = add_noise(scheduler, latents, steps)
    output, attended, held = unet(noisy, steps, states, latents)
    losses = velocity_losses(scheduler, output - velocity, steps, minded)
    inner = {"attended": attended.mean(), "held": held.mean()}
    loss = losses["loss"] + ATTENDING * inner["attended"] + HOLDING * inner["held"]
    return {**losses, **inner, "loss": loss}


@torch.no_grad()
def redraw(unet: UNet2DConditionModel, sampler: Sampler) -> torch.Tensor:
    """All subjects' latents as the UNet makes them out through noise, float16 [2, N, 8, 16, 16].

    One step each, from halfway noise: what is drawn then is the subject's own picture, with the UNet's flaws.
    """
    scheduler = build_scheduler()
    redrawn = torch.empty_like(sampler.latents)
    for look, name in enumerate(LOOKS):
        for picks in torch.arange(len(sampler.subjects)).split(64):
            prompts = [sample_prompt(sampler.subjects[i], sampler.chance, name) for i in picks.tolist()]
            states = encode_prompts(sampler.tokenizer, sampler.encoder, prompts)
            steps = torch.randint(*REDRAWN, (len(picks),)).to(unet.device)
            noisy, _ = add_noise(scheduler, sampler.latents[look, picks].float().to(unet.device), steps)
            signal = scheduler.alphas_cumprod.to(noisy)[steps].view(-1, 1, 1, 1)
            seen = signal.sqrt() * noisy - (1 - signal).sqrt() * unet(noisy, steps, states).sample
            redrawn[look, picks] = seen.half().cpu()
    return redrawn


def assemble(
    unet: UNet2DConditionModel, autoencoder: AutoencoderKL, encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """The parts as one StableDiffusionPipeline without a safety checker (it could only ever draw emoji)."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample_sheet(
    pipeline: StableDiffusionPipeline, sheet: Sequence[str], styles: Sequence[str | None], file: Path
) -> None:
    """Draw the prompts of `sheet`, a row a style, and save them as one picture."""
    rows = []
    for style in styles:
        prompts = [f"{p}, {STYLES[style][0]}" if style else p for p in sheet]
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
        drawn = pipeline(
            prompts, num_inference_steps=10, guidance_scale=2.0, generator=generators, output_type="np"
        ).images
        rows.append(np.concatenate(list(drawn), axis=1))
    Image.fromarray((np.concatenate(rows) * 255).round().astype(np.uint8)).save(file)


def train_base(
    run: Run, sampler: Sampler, unet: UNet2DConditionModel, autoencoder: AutoencoderKL, batch: int = 32
) -> None:
    """Train the UNet; the averaged weights go to `run.folder / "model"`."""
    unet.to(memory_format=torch.channels_last)
    scheduler = build_scheduler()
    supervised = SupervisedUNet(unet)
    optimizer = torch.optim.AdamW(
        supervised.parameters(), lr=run.peak, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    model, optimizer = run.accelerator.prepare(supervised, optimizer)
    average = Average(unet, 0.996)
    share = batch // run.accelerator.num_processes

    def sample(folder: Path) -> None:
        unet.save_pretrained(folder / "model")
        unet.eval()
        pipeline = assemble(unet, autoencoder, sampler.encoder, sampler.tokenizer).to(run.device)
        sample_sheet(pipeline, sampler.sheet, LOOKS, folder / f"sheet-{run.done:06d}.png")
        unet.train()

    for _ in run.loop(
        optimizer, lambda _: supervised_loss(model, scheduler, sampler.batch(share)), average, sample
    ):
        pass
