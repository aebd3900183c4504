"""Stage `autoencoder`: a small AutoencoderKL (8x downsampling, 8 latent channels) for 128x128 glyphs.

It is trained on whole pictures: the group norms see all of one, so that a crop has other latents. At the end
the latents' mean and spread are folded into quant_conv/post_quant_conv, so that scaling_factor is 1.
Knows nothing of prompts or of the UNet.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from torch import nn

from weights.train.run import Average, Run

KEEP = 0.02  # weight of staying near the latents of the autoencoder that training goes on from
# Plain RGB differences learn luminance first and red against green very late: weigh chroma explicitly.
OPPONENT = torch.tensor([[0.45, 0.45, 0.45], [2.0, -2.0, 0.0], [0.8, 0.8, -1.6]])


def build_autoencoder() -> AutoencoderKL:
    """The untrained autoencoder: 128x128x3 in [-1, 1] ↔ 16x16x8."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16, 32, 64, 128),
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=128,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


class Reconstruction(nn.Module):
    """An autoencoder's way there and back as one forward pass, which several processes can share."""

    def __init__(self, autoencoder: AutoencoderKL) -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, real: torch.Tensor) -> tuple[torch.Tensor, DiagonalGaussianDistribution]:
        """Pictures [N, 3, H, W] → pictures drawn from sampled latents, and the latents' distribution."""
        posterior = self.autoencoder.encode(real).latent_dist
        return self.autoencoder.decode(posterior.sample()).sample, posterior


def to_tensor(pictures: npt.NDArray[np.uint8], device: torch.device | str = "cpu") -> torch.Tensor:
    """uint8 RGB [N, H, W, 3] → float32 [N, 3, H, W] in [-1, 1]."""
    return torch.tensor(pictures, device=device).permute(0, 3, 1, 2).float() / 127.5 - 1


def picture_loss(drawn: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """L1 and twice the squared error on opponent colours, on gradients and on three coarser scales."""
    difference = torch.einsum("oc,bchw->bohw", OPPONENT.to(drawn), drawn - real)
    loss = difference.abs().mean() + 2 * difference.pow(2).mean()
    for axis in (-1, -2):
        loss = loss + 0.5 * F.l1_loss(drawn.diff(dim=axis), real.diff(dim=axis))
    for size in (2, 4, 8):
        loss = loss + 0.5 * F.avg_pool2d(difference, size).abs().mean()
    return loss


def peak_signal_to_noise(drawn: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Mean PSNR in dB of pictures in [-1, 1]."""
    return (10 * torch.log10(4 / (drawn.clamp(-1, 1) - real).pow(2).mean((1, 2, 3)))).mean()


def choose(
    pictures: npt.NDArray[np.uint8], plain: int, count: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Looks and subjects of `count` of the pictures [looks, N, H, W, 3]; half of the subjects are among the
    first `plain`, the glyphs themselves, which are asked for the most.
    """
    looks, subjects = pictures.shape[:2]
    some = torch.cat([torch.randint(plain, (count // 2,)), torch.randint(subjects, (count - count // 2,))])
    return torch.randint(looks, (count,)).numpy(), some.numpy()


@torch.no_grad()
def fold_whitening(autoencoder: AutoencoderKL, pictures: npt.NDArray[np.uint8]) -> None:
    """Make the latents of `pictures` zero-mean, unit-variance a channel, inside the 1x1 convolutions."""
    device = next(autoencoder.parameters()).device
    batches = [pictures[i : i + 32] for i in range(0, len(pictures), 32)]
    latents = torch.cat([autoencoder.encode(to_tensor(batch, device)).latent_dist.mean for batch in batches])
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    channels = len(mean)
    into, out_of = autoencoder.quant_conv, autoencoder.post_quant_conv
    out_of.bias += torch.einsum("oi,i->o", out_of.weight[:, :, 0, 0], mean)
    out_of.weight *= spread.view(1, -1, 1, 1)
    into.weight[:channels] /= spread.view(-1, 1, 1, 1)
    into.bias[:channels] = (into.bias[:channels] - mean) / spread
    into.bias[channels:] -= 2 * spread.log()  # the log-variance shrinks with the latents


def comparison_sheet(autoencoder: AutoencoderKL, pictures: npt.NDArray[np.uint8], file: Path) -> float:
    """Write real pictures above their reconstructions; returns the PSNR in dB."""
    device = next(autoencoder.parameters()).device
    real = to_tensor(pictures, device)
    with torch.no_grad():
        drawn = autoencoder.decode(autoencoder.encode(real).latent_dist.mean).sample
    both = torch.stack([real.view(-1, 8, *real.shape[1:]), drawn.view(-1, 8, *real.shape[1:])], 1).clamp(
        -1, 1
    )
    grid = both.permute(0, 1, 4, 2, 5, 3).reshape(-1, 8 * real.shape[-1], 3)
    Image.fromarray(((grid + 1) * 127.5).round().byte().cpu().numpy()).save(file)
    return float(peak_signal_to_noise(drawn, real))


def train_autoencoder(
    run: Run, pictures: npt.NDArray[np.uint8], plain: int, batch: int = 8, start: AutoencoderKL | None = None
) -> None:
    """Train on uint8 RGB pictures [2, N, 128, 128, 3]; the result is saved in `run.folder / "model"`.

    The first `plain` of the N are the glyphs themselves.
    With `start` it goes on from there and holds on to its latents: a UNet trained on them stays of use.
    """
    kept = None if start is None else copy.deepcopy(start).requires_grad_(False).to(run.device)
    autoencoder = start or build_autoencoder()
    autoencoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=run.peak, betas=(0.9, 0.98), weight_decay=1e-3)
    model, optimizer = run.accelerator.prepare(Reconstruction(autoencoder), optimizer)
    average = Average(autoencoder, 0.995)
    flat = pictures.reshape(-1, *pictures.shape[2:])
    shown = flat[:: len(flat) // 24][:24]
    share = batch // run.accelerator.num_processes

    def losses(_: int) -> dict[str, torch.Tensor]:
        real = to_tensor(pictures[choose(pictures, plain, share)], run.device)
        drawn, posterior = model(real)
        kl = 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()
        loss = picture_loss(drawn, real) + 1e-3 * kl
        if kept is not None:
            with torch.no_grad():
                before = kept.encode(real).latent_dist.mean
            loss = loss + KEEP * F.mse_loss(posterior.mean, before)
        return {
            "loss": loss,
            "psnr": peak_signal_to_noise(drawn, real),
            "kl": kl,
        }

    for step in run.loop(optimizer, losses, average):
        if run.accelerator.is_main_process:
            psnr = comparison_sheet(autoencoder, shown, run.folder / "sheet.png")
            print(f"\n{run.stage} step {step}: reconstruction PSNR {psnr:.2f} dB", flush=True)
            autoencoder.save_pretrained(run.folder / "unfolded")
    if run.accelerator.is_main_process:
        autoencoder = AutoencoderKL.from_pretrained(run.folder / "unfolded").to(run.device)
        fold_whitening(autoencoder, flat)
        autoencoder.save_pretrained(run.folder / "model")
    run.accelerator.wait_for_everyone()
