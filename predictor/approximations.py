"""What may be drawn in place of the exact picture: how an approximation changes a row, and what it loses.

The losses are those that `python -m benchmarks.approximations` has measured with this very base and left in
its folder. It doesn't know requests, nor how a row is drawn.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from predictor.contract import EXACT, EXACTLY, FEW_STEPS, Label
from predictor.diffusion.checkpoint import UnsupportedCheckpoint
from predictor.diffusion.diffuser import Diffuser
from weights.base import read_base

FILE = "approximations.json"
"""In the base's folder, optional: `few_steps` with `num_inference_steps` and `solver`; and what was measured:
`base` (the hash of its UNet) and `quality` by the approximations' names.
"""

BLOCK_CACHES = {"block-cache:2": 2, "block-cache:3": 3}
"""At how manieth step the UNet's inner layers are computed."""

TINY_VAE = "tiny-vae"
"""The pictures are decoded by the AutoencoderTiny in the base's folder `tiny_vae`."""

NOT_MEASURED = "not measured"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Approximation:
    """`changes` are fields of a Row; `label` is what a reply says of a picture drawn so."""

    changes: Mapping[str, Any]
    label: Label


def read_approximations(folder: Path, diffuser: Diffuser) -> dict[str, Approximation]:
    """Those that a diffuser offers, by name, with what the base's folder says of them; the first is the exact
    picture.

    Raises UnsupportedCheckpoint where its FILE says what can't be.
    """
    content = _read(folder / FILE)
    quality = content.get("quality", {})
    if quality and content.get("base") != read_base(folder).sha256:
        logger.warning("%s was measured with another UNet and doesn't count", folder / FILE)
        quality = {}
    found = {EXACT: Approximation({}, EXACTLY)}
    if diffuser.skips_inner_layers:
        for name, every in BLOCK_CACHES.items():
            found[name] = Approximation({"inner_every": every}, _label(name, {}, quality))
    if diffuser.has_tiny_vae:
        found[TINY_VAE] = Approximation({"tiny_vae": True}, _label(TINY_VAE, {}, quality))
    if (few := content.get("few_steps")) is not None:
        steps, solver = few.get("num_inference_steps"), few.get("solver")
        if type(steps) is not int or not 1 <= steps <= diffuser.max_steps or solver not in diffuser.solvers:
            raise UnsupportedCheckpoint(
                f"{folder / FILE}: few_steps needs num_inference_steps from 1 to {diffuser.max_steps} and a "
                f"solver, one of {', '.join(diffuser.solvers)}"
            )
        own = {"num_inference_steps": steps, "solver": solver}
        found[FEW_STEPS] = Approximation({"steps": steps, "solver": solver}, _label(FEW_STEPS, own, quality))
    return found


def _label(name: str, settings: Mapping[str, Any], quality: Mapping[str, Any]) -> Label:
    return {"name": name, **settings, "quality": quality.get(name, NOT_MEASURED)}


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UnsupportedCheckpoint(f"{file} can't be read: {error}") from error
    parts = ("few_steps", "quality")
    if not isinstance(content, dict) or not all(isinstance(content.get(part, {}), dict) for part in parts):
        raise UnsupportedCheckpoint(
            f"{file} must hold a JSON object, whose {' and '.join(parts)}, if any, are objects too"
        )
    return content
