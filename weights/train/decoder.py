"""Stage `decoder`: the decoder alone, trained on to draw crisply from the UNet's latents.

The encoder stays as it is, so that latents keep their meaning. Half of the latents are the UNet's own, all
get some noise, and the loss asks for the edges as well as for the colours. Whole pictures are decoded, as
they will be: the group norms of a part are others. Knows nothing of prompts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

from weights.train.autoencoder import choose, comparison_sheet, peak_signal_to_noise, picture_loss, to_tensor
from weights.train.run import Average, Run

NOISE = 0.2  # largest spread of the noise on latents, whose own spread is 1


def laplacian(pictures: torch.Tensor) -> torch.Tensor:
    """Four-neighbour Laplacian of [N, 3, H, W], [N, 3, H-2, W-2]."""
    centre = pictures[..., 1:-1, 1:-1]
    return (
        pictures[..., :-2, 1:-1]
        + pictures[..., 2:, 1:-1]
        + pictures[..., 1:-1, :-2]
        + pictures[..., 1:-1, 2:]
    ) - 4 * centre


def sharpness_loss(drawn: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """How far the Laplacian is off, in place and in its energy nearby, further around and on the whole.

    Where an edge lies is never quite sure, and a difference in place alone is least for a blurred one; the
    energies ask for an edge all the same.
    """
    have, want = laplacian(drawn), laplacian(real)
    loss = 0.3 * F.l1_loss(have, want)
    for size, weight in ((5, 1.0), (15, 1.0), (have.shape[-1], 2.0)):
        energy = F.avg_pool2d(have.abs(), size, size // 2) - F.avg_pool2d(want.abs(), size, size // 2)
        loss = loss + weight * energy.abs().mean()
    return loss


def train_decoder(
    run: Run,
    autoencoder: AutoencoderKL,
    pictures: npt.NDArray[np.uint8],
    latents: torch.Tensor,
    plain: int,
    batch: int = 4,
) -> None:
    """`pictures` uint8 [2, N, 128, 128, 3] and their latents of several origins [M, 2, N, 8, 16, 16].

    The first `plain` of the N are the glyphs themselves. Saved in `run.folder / "model"`.
    """
    autoencoder.encoder.requires_grad_(False)
    autoencoder.quant_conv.requires_grad_(False)
    autoencoder.to(memory_format=torch.channels_last)
    parameters = [p for p in autoencoder.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=run.peak, betas=(0.9, 0.98), weight_decay=1e-4, fused=True)
    decoder = nn.Sequential(autoencoder.post_quant_conv, autoencoder.decoder)
    model, optimizer = run.accelerator.prepare(decoder, optimizer)
    average = Average(autoencoder, 0.998)
    flat = pictures.reshape(-1, *pictures.shape[2:])
    shown = flat[:: len(flat) // 24][:24]
    share = batch // run.accelerator.num_processes

    def losses(_: int) -> dict[str, torch.Tensor]:
        chosen = choose(pictures, plain, share)
        origins = torch.randint(len(latents), (share,))
        clean = latents[origins, *chosen].float().to(run.device)
        drawn = model(clean + torch.rand(share, 1, 1, 1).to(clean) * NOISE * torch.randn_like(clean))
        target = to_tensor(pictures[chosen], run.device)
        loss = picture_loss(drawn, target) + sharpness_loss(drawn, target)
        crispness = laplacian(drawn).abs().mean() / laplacian(target).abs().mean()
        return {"loss": loss, "psnr": peak_signal_to_noise(drawn, target), "crisp": crispness}

    for step in run.loop(optimizer, losses, average):
        if run.accelerator.is_main_process:
            psnr = comparison_sheet(autoencoder, shown, run.folder / "sheet.png")
            autoencoder.save_pretrained(run.folder / "model")
            print(f"\n{run.stage} step {step}: reconstruction PSNR {psnr:.2f} dB", flush=True)
