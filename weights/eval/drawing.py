"""Draws with a model folder through diffusers' own pipeline: base, LoRAs, default settings.

What the autoencoder alone makes of real pictures is here too: no drawing can be better. Knows nothing of
servers or of judges.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import StableDiffusionPipeline

from weights.store import Store


class Drawing:
    """A StableDiffusionPipeline with every look loaded, drawing at the base's default settings."""

    def __init__(self, model_dir: Path, looks: Sequence[str], device: str = "cpu") -> None:
        base = model_dir / "base"
        self.settings = json.loads((base / "generation.json").read_text(encoding="utf-8"))
        self.pipeline = StableDiffusionPipeline.from_pretrained(
            base, use_safetensors=True, local_files_only=True
        )
        self.pipeline.to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        store = Store(model_dir / "loras")
        for look in looks:
            tensors = store.load(store.resolve(look))
            self.pipeline.load_lora_weights(tensors, adapter_name=look)

    def draw(self, look: str, prompts: Sequence[str], seeds: Sequence[int]) -> npt.NDArray[np.uint8]:
        """uint8 RGB [N, 128, 128, 3]; prompt and seed a picture."""
        self.pipeline.set_adapters([look])
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        images = self.pipeline(
            list(prompts),
            num_inference_steps=self.settings["num_inference_steps"],
            guidance_scale=self.settings["guidance_scale"],
            generator=generators,
            output_type="np",
        ).images
        drawn: npt.NDArray[np.uint8] = (images * 255).round().astype(np.uint8)
        return drawn

    @torch.inference_mode()
    def reconstruct(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """uint8 RGB [N, 128, 128, 3] encoded to latents and decoded again."""
        vae, processor = self.pipeline.vae, self.pipeline.image_processor
        decoded = []
        for picture in pictures:
            pixels = processor.preprocess(picture[None].astype(np.float32) / 255).to(vae.device)
            latents = vae.encode(pixels).latent_dist.mode()
            decoded.append(processor.postprocess(vae.decode(latents).sample, output_type="np"))
        drawn: npt.NDArray[np.uint8] = (np.concatenate(decoded) * 255).round().astype(np.uint8)
        return drawn
