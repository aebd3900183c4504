"""A second VAE that rows may be decoded by: against diffusers' own, and folders that don't fit."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor

from predictor.approximations import read_approximations
from predictor.diffusion.checkpoint import UnsupportedCheckpoint
from predictor.diffusion.diffuser import Diffuser
from predictor.errors import InvalidInput
from tests.predictor.diffusion.drawing import finish, make_row
from tests.tiny_models import write_tiny_vae


@pytest.fixture
def folder(tiny_folders: dict[str, Path], tmp_path: Path) -> Path:
    """A base of eight latent channels, to write to."""
    shutil.copytree(tiny_folders["emoji"], tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize("fixed_rows", [None, 2])
def test_it_decodes_as_diffusers_does_where_a_row_asks_for_it(folder: Path, fixed_rows: int | None) -> None:
    vae = write_tiny_vae(folder, 8)
    diffuser = Diffuser.load(folder, fixed_rows=fixed_rows)
    assert diffuser.has_tiny_vae
    rows = [make_row(seed=seed, tiny_vae=True) for seed in range(3)]
    diffuser.check(rows[0])
    samples = finish(diffuser, rows)
    pictures = diffuser.decode(samples)
    with torch.inference_mode():
        decoded = vae.decode(torch.stack([sample.latents for sample in samples])).sample
    wanted = (VaeImageProcessor().postprocess(decoded, output_type="np") * 255).round()
    for picture, other in zip(pictures, wanted, strict=True):
        assert picture.dtype == np.uint8
        assert abs(picture - other).max() <= 1
    for sample in samples:
        sample.row = make_row()
    assert any(
        abs(whole.astype(int) - tiny.astype(int)).max() > 1
        for whole, tiny in zip(diffuser.decode(samples), pictures, strict=True)
    )


def test_it_is_offered_where_the_folder_has_one(folder: Path) -> None:
    without = Diffuser.load(folder)
    assert "tiny-vae" not in read_approximations(folder, without)
    with pytest.raises(InvalidInput, match="approximation: this model has no tiny VAE"):
        without.check(make_row(tiny_vae=True))
    write_tiny_vae(folder, 8)
    found = read_approximations(folder, Diffuser.load(folder))
    assert found["tiny-vae"].label == {"name": "tiny-vae", "quality": "not measured"}


def rename_weights(folder: Path) -> None:
    path = folder / "tiny_vae" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_suffix(".bin"))


def rename_class(folder: Path) -> None:
    path = folder / "tiny_vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "AutoencoderKL"}))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: write_tiny_vae(folder, 4), "tiny_vae has 4 latent channels, the VAE 8"),
        (
            lambda folder: write_tiny_vae(folder, 8, upsampling_scaling_factor=4),
            "tiny_vae has 4 pixels a latent's side, the VAE 2",
        ),
        (rename_class, "tiny_vae is a AutoencoderKL"),
        (rename_weights, "Pickled weights"),
        (lambda folder: (folder / "tiny_vae" / "config.json").unlink(), "tiny_vae/config.json"),
    ],
)
def test_one_that_does_not_fit_is_refused_with_the_reason(
    folder: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    write_tiny_vae(folder, 8)
    spoil(folder)
    with pytest.raises(UnsupportedCheckpoint, match=reason):
        Diffuser.load(folder)
