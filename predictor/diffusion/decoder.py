"""Latents become pictures. It doesn't know samples, nor how latents came about."""

import numpy as np
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

PIXELS = 4 * 512 * 512  # decoded at once; the VAE's activations take the most memory of all


class Decoder:
    """The decoding half of a VAE that lies on its device."""

    def __init__(self, vae: AutoencoderKL | AutoencoderTiny, one_by_one: bool) -> None:
        """one_by_one: so that a picture's bytes don't depend on the others."""
        self._vae = vae
        self._one_by_one = one_by_one

    def decode(self, latents: torch.Tensor) -> list[np.ndarray]:
        """The pictures of latents [B, C, h, w] float32: uint8 [height, width, 3], rounded as in diffusers."""
        config = self._vae.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        latents = latents / config.scaling_factor + (config.shift_factor or 0)
        at_once = 1 if self._one_by_one else max(1, PIXELS // (factor**2 * latents[0, 0].numel()))
        pictures: list[np.ndarray] = []
        for part in latents.to(self._vae.dtype).split(at_once):
            image = self._vae.decode(part.contiguous(memory_format=torch.channels_last), return_dict=False)[0]
            image = (image * 0.5 + 0.5).clamp(0, 1).float()
            pixels = (image * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
            pictures.extend(pixels.contiguous().cpu().numpy())
        return pictures
