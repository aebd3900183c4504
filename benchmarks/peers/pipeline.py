"""The model as all peers draw with it: diffusers' own pipeline with peft's LoRAs.

What peers share is here, so that only their serving differs. It knows no server and nothing of this project
but where a store keeps the file of a LoRA.
"""

import base64
from collections.abc import Sequence

import torch
from diffusers import StableDiffusionPipeline
from diffusers.utils import logging

from benchmarks.peers.job import Job, Picture
from benchmarks.peers.settings import Settings


class Pipeline:
    """A StableDiffusionPipeline with the LoRAs of a store; for one thread at a time."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(settings.threads)
        logging.disable_progress_bar()
        self._store = settings.loras
        self._loads = settings.adapters == "load"
        self._active: str | None = None
        self.pipeline = StableDiffusionPipeline.from_pretrained(
            settings.base,
            dtype=getattr(torch, settings.dtype),
            use_safetensors=True,
            local_files_only=True,
        ).to(settings.device)
        self.pipeline.unet.to(memory_format=torch.channels_last)
        self.pipeline.vae.to(memory_format=torch.channels_last)
        self.pipeline.set_progress_bar_config(disable=True)
        if not self._loads:
            for file in settings.lora_files:
                self._load(f"{file.parent.parent.name}@{file.parent.name}")
            if self.pipeline.get_list_adapters():
                self.pipeline.disable_lora()

    def draw(self, jobs: Sequence[Job]) -> list[Picture]:
        """The pictures of any jobs, in their order: one call of the pipeline for each kind of settings, for a
        call can't mix them.
        """
        pictures: dict[int, Picture] = {}
        kinds: dict[tuple[int, float, str | None], list[int]] = {}
        for place, job in enumerate(jobs):
            kinds.setdefault(job.settings, []).append(place)
        for places in kinds.values():
            drawn = self._draw_alike([jobs[place] for place in places])
            pictures.update(zip(places, drawn, strict=True))
        return [pictures[place] for place in range(len(jobs))]

    def choose(self, lora: str | None) -> None:
        """Makes the next calls use a loaded LoRA, or none."""
        if lora == self._active:
            return
        if lora is None:
            self.pipeline.disable_lora()
        else:
            self.pipeline.enable_lora()
            self.pipeline.set_adapters(lora)
        self._active = lora

    def _draw_alike(self, jobs: Sequence[Job]) -> list[Picture]:
        steps, guidance, lora = jobs[0].settings
        if self._loads and lora is not None:
            self._load(lora)
        elif not self._loads:
            self.choose(lora)
        with torch.inference_mode():
            images = self.pipeline(
                prompt=[job.prompt for job in jobs],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(job.seed) for job in jobs],
                output_type="np",
            ).images
        if self._loads and lora is not None:
            self.pipeline.unload_lora_weights()
        pixels = (images * 255).round().astype("uint8")
        return [
            Picture(b64=base64.b64encode(each.tobytes()).decode(), shape=list(each.shape)) for each in pixels
        ]

    def _load(self, lora: str) -> None:
        name, _, version = lora.partition("@")
        self.pipeline.load_lora_weights(
            self._store / name / version, weight_name="adapter.safetensors", adapter_name=lora
        )
