"""One Stable Diffusion model in memory: encodes prompts, takes a denoising step for mixed rows, decodes pictures.

It doesn't know queues, requests or where LoRAs are stored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from predictor.row import Row


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a row gets where the request says nothing."""

    steps: int
    guidance: float
    solver: str


class Diffuser:
    """`load` a StableDiffusionPipeline folder, `add_adapter`s, then give it to an Engine."""

    defaults: Defaults
    native_size: tuple[int, int]  # height, width in pixels
    size_multiple: int  # height and width are multiples of this
    max_prompt_tokens: int  # without the start and end tokens
    max_steps: int  # the scheduler's num_train_timesteps
    solvers: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu", dtype: str = "float32", threads: int | None = None) -> Self:
        """Loads a folder saved by StableDiffusionPipeline.save_pretrained (safetensors only, no network).

        device: "cpu", "cuda", "cuda:1"; dtype: "float32", "float16", "bfloat16"; threads: torch's CPU threads.
        Raises UnsupportedCheckpoint (predictor.checkpoint), which says what is wrong with the folder and the remedy.
        """
        raise NotImplementedError

    def count_tokens(self, text: str) -> int:
        """The tokens of a prompt, without the start and end tokens; more than `max_prompt_tokens` are cut off."""
        raise NotImplementedError

    def check(self, row: Row) -> None:
        """Raises InvalidInput or UnknownModel for a row that can't be drawn: solver, steps, size, LoRA. Costs nothing."""
        raise NotImplementedError

    @property
    def adapters(self) -> tuple[str, ...]:
        """Names of the LoRAs in the pools."""
        raise NotImplementedError

    def add_adapter(self, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Puts a LoRA (canonical layout) in the pools; after the engine has started call Engine.add_adapter instead.

        Raises weights.errors.IncompatibleLora naming the key and the shapes.
        """
        raise NotImplementedError

    def remove_adapter(self, name: str) -> None:
        """Drops a LoRA from the pools. No row may be using it."""
        raise NotImplementedError

    def begin(self, rows: Sequence[Row]) -> list[object]:
        raise NotImplementedError
