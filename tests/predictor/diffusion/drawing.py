"""Rows, two LoRAs that fit any UNet, and drawing to the end."""

import torch
from diffusers import UNet2DConditionModel

from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from predictor.diffusion.sample import Sample
from tests.tiny_models import make_lora

KINDS = ("sd15", "sd2", "emoji")


def make_row(**changes) -> Row:
    row = {
        "prompt": "a cat",
        "negative_prompt": "",
        "seed": 5,
        "steps": 4,
        "guidance": 3.0,
        "loras": (),
        "height": 16,
        "width": 16,
        "solver": "ddim",
    }
    return Row(**{**row, **changes})


def make_loras(unet: UNet2DConditionModel) -> dict[str, dict[str, torch.Tensor]]:
    """a@1 and b@1, of different ranks, in canonical layout."""
    return {"a@1": make_lora(unet, rank=2, seed=1), "b@1": make_lora(unet, rank=3, seed=2)}


def finish(diffuser: Diffuser, rows: list[Row]) -> list[Sample]:
    """Draws rows that begin together; each leaves when it is finished."""
    samples = diffuser.begin(rows)
    while running := [sample for sample in samples if not sample.finished]:
        diffuser.step(running)
    return samples


def alone(diffuser: Diffuser, row: Row) -> Sample:
    """Draws a row that nobody is beside."""
    [sample] = finish(diffuser, [row])
    return sample


def tolerance(kind: str, solver: str) -> float:
    """1e-4 on latents; more where Euler starts at sigma 4096 (zero SNR), too large for float32."""
    return 0.03 if "euler" in solver and kind != "sd15" else 1e-4
