"""A probe of the predictor's diffuser alone: the time of a denoising step by its rows and their LoRAs.

`python -m benchmarks.steps` with the peers' environment variables. It doesn't know queues or servers.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.settings import Settings
from benchmarks.probe import answer
from predictor.allocator import keep_freed_memory
from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample
from weights.store import Store


class Steps:
    """One diffuser with all LoRAs of the store."""

    def __init__(self, settings: Settings) -> None:
        keep_freed_memory()  # as the server
        torch.set_num_threads(settings.threads)
        self._device = settings.device
        self._diffuser = Diffuser.load(settings.base, device=settings.device, dtype=settings.dtype)
        load_loras(self._diffuser, settings.loras)

    def step(self, loras: Sequence[str | None], count: int) -> list[float]:
        """Seconds of each of `count` steps of unguided rows, one row for each of the LoRAs."""
        samples = self._begin(loras, count + 1)
        self._diffuser.step(samples)  # chooses the LoRAs; all tensors are allocated after it
        return [self._timed(lambda: self._diffuser.step(samples)) for _ in range(count)]

    def decode(self, rows: int, count: int) -> list[float]:
        """Seconds of each of `count` decodings of so many pictures."""
        samples = self._begin([None] * rows, 1)
        self._diffuser.step(samples)
        return [self._timed(lambda: self._diffuser.decode(samples)) for _ in range(count)]

    def _begin(self, loras: Sequence[str | None], steps: int) -> list[Sample]:
        return self._diffuser.begin(
            [draft(self._diffuser, "a red apple", seed, steps, 1.0, lora) for seed, lora in enumerate(loras)]
        )

    def _timed(self, work: Callable[[], Any]) -> float:
        self._wait()
        began = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


def draft(diffuser: Diffuser, prompt: str, seed: int, steps: int, guidance: float, lora: str | None) -> Row:
    """A row of the model's own size and solver."""
    height, width = diffuser.native_size
    return Row(
        prompt=prompt,
        negative_prompt="",
        seed=seed,
        steps=steps,
        guidance=guidance,
        loras=() if lora is None else ((lora, 1.0),),
        height=height,
        width=width,
        solver=diffuser.defaults.solver,
    )


def load_loras(diffuser: Diffuser, folder: Path) -> None:
    """Gives a diffuser all versions of a store."""
    store = Store(folder)
    for version in store.versions():
        diffuser.add_adapter(str(version), store.load(version))


if __name__ == "__main__":
    answer(lambda: Steps(Settings.from_environment()))
