"""What these tests begin with: an empty store, and a tiny base with a LoRA that fits it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from weights.store import Store

if TYPE_CHECKING:
    import torch


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "loras")


@pytest.fixture(scope="session")
def base(tiny_folders: dict[str, Path]) -> Path:
    """A folder to import LoRAs for. Read only."""
    return tiny_folders["sd15"]


@pytest.fixture(scope="session")
def unet() -> torch.nn.Module:
    """The UNet of that folder. Read only."""
    from tests.tiny_models import make_pipeline

    return make_pipeline("sd15").unet


@pytest.fixture(scope="session")
def lora(unet: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A LoRA for all its matrices, in canonical layout. Read only."""
    from tests.tiny_models import make_lora

    return make_lora(unet)
