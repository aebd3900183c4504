"""Diffusers over the tiny folders."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from predictor.diffusion.diffuser import Diffuser
from tests.predictor.diffusion.drawing import make_loras


@pytest.fixture(scope="module")
def load(tiny_folders: dict[str, Path]) -> Callable[..., Diffuser]:
    """kind, fixed_rows → a diffuser with the LoRAs a@1 and b@1; the same one for all tests of a file."""

    @cache
    def load(kind: str, fixed_rows: int | None = None) -> Diffuser:
        diffuser = Diffuser.load(tiny_folders[kind], fixed_rows=fixed_rows)
        for name, tensors in make_loras(diffuser._denoiser._unet).items():
            diffuser.add_adapter(name, tensors)
        return diffuser

    return load
