"""A probe of plain diffusers: the time of one denoising step by its rows, with a LoRA or none, its
arithmetic, and how fast the device is at such.

`python -m benchmarks.peers.steps` with the peers' environment variables.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers.pipeline import Pipeline
from benchmarks.peers.settings import Settings
from benchmarks.probe import answer

SIDE = {"cpu": 2048, "cuda": 8192}  # of a matrix that is large enough for the device to be fastest


class Steps:
    """One pipeline, stepped by hand as `StableDiffusionPipeline.__call__` does without guidance."""

    def __init__(self, settings: Settings) -> None:
        self._device = settings.device
        self._pipeline = Pipeline(settings)

    @torch.inference_mode()
    def step(self, loras: Sequence[str | None], count: int) -> list[float]:
        """Seconds of each of `count` steps of unguided rows, one for each of the LoRAs, which must be one."""
        (lora,) = set(loras)
        self._pipeline.choose(lora)
        scheduler = self._pipeline.pipeline.scheduler
        scheduler.set_timesteps(count + 1, device=self._device)
        latents, states = self._begin(len(loras))
        seconds = []
        for timestep in scheduler.timesteps:
            self._wait()
            began = time.perf_counter()
            output = self._unet(scheduler.scale_model_input(latents, timestep), timestep, states)
            latents = scheduler.step(output, timestep, latents, return_dict=False)[0]
            self._wait()
            seconds.append(time.perf_counter() - began)
        return seconds[1:]

    @torch.inference_mode()
    def operations(self) -> dict[str, int]:
        """Floating-point operations of convolutions and matrix products: `row` of a UNet row without a LoRA,
        `decode` of the decoding of a picture.
        """
        self._pipeline.choose(None)
        latents, states = self._begin(1)
        vae = self._pipeline.pipeline.vae
        return {
            "row": self._counted(lambda: self._unet(latents, 1, states)),
            "decode": self._counted(lambda: vae.decode(latents / vae.config.scaling_factor)),
        }

    @torch.inference_mode()
    def rate(self, count: int) -> list[float]:
        """Floating-point operations a second of each of `count` products of two large square matrices."""
        side = SIDE[self._device]
        left, right = torch.randn(
            2, side, side, device=self._device, dtype=self._pipeline.pipeline.unet.dtype
        )
        found = []
        for _ in range(count + 1):
            self._wait()
            began = time.perf_counter()
            left @ right
            self._wait()
            found.append(2 * side**3 / (time.perf_counter() - began))
        return found[1:]

    def _begin(self, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        pipeline = self._pipeline.pipeline
        config = pipeline.unet.config
        states, _ = pipeline.encode_prompt(["a red apple"] * rows, self._device, 1, False)
        shape = (rows, config.in_channels, config.sample_size, config.sample_size)
        return torch.randn(shape).to(self._device, pipeline.unet.dtype), states

    def _unet(self, latents: torch.Tensor, timestep: Any, states: torch.Tensor) -> torch.Tensor:
        unet = self._pipeline.pipeline.unet
        output: torch.Tensor = unet(latents, timestep, encoder_hidden_states=states, return_dict=False)[0]
        return output

    def _counted(self, work: Callable[[], Any]) -> int:
        with FlopCounterMode(display=False) as counter:
            work()
        return int(counter.get_total_flops())

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    answer(lambda: Steps(Settings.from_environment()))
