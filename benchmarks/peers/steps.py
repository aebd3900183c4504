"""A probe of plain diffusers: the time of one denoising step by its rows, with one of the loaded LoRAs.

`python -m benchmarks.peers.steps` with the peers' environment variables.
"""

import time

import torch

from benchmarks.peers.pipeline import Pipeline
from benchmarks.peers.settings import Settings
from benchmarks.probe import answer


class Steps:
    """One pipeline, stepped by hand as `StableDiffusionPipeline.__call__` does without guidance."""

    def __init__(self, settings: Settings) -> None:
        self._device = settings.device
        self._pipeline = Pipeline(settings)

    @torch.inference_mode()
    def step(self, rows: int, lora: str | None, count: int) -> list[float]:
        """Seconds of each of `count` steps of `rows` rows, all with one LoRA."""
        self._pipeline.choose(lora)
        pipeline = self._pipeline.pipeline
        config = pipeline.unet.config
        states, _ = pipeline.encode_prompt(["a red apple"] * rows, self._device, 1, False)
        shape = (rows, config.in_channels, config.sample_size, config.sample_size)
        latents = torch.randn(shape).to(self._device, pipeline.unet.dtype)
        pipeline.scheduler.set_timesteps(count + 1, device=self._device)
        seconds = []
        for timestep in pipeline.scheduler.timesteps:
            self._wait()
            began = time.perf_counter()
            inputs = pipeline.scheduler.scale_model_input(latents, timestep)
            output = pipeline.unet(inputs, timestep, encoder_hidden_states=states, return_dict=False)[0]
            latents = pipeline.scheduler.step(output, timestep, latents, return_dict=False)[0]
            self._wait()
            seconds.append(time.perf_counter() - began)
        return seconds[1:]

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


if __name__ == "__main__":
    answer(lambda: Steps(Settings.from_environment()))
