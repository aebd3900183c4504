"""What a row gets where the request says nothing: as the model's folder has it. It knows no requests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from predictor.diffusion.checkpoint import UnsupportedCheckpoint
from predictor.diffusion.solvers import Solvers


@dataclass(frozen=True, slots=True)
class Defaults:
    """Denoising steps, guidance scale and the name of a solver."""

    steps: int
    guidance: float
    solver: str


def read_defaults(generation: Mapping[str, Any], scheduler_class: str, solvers: Solvers) -> Defaults:
    """Those of a folder's generation.json, and its own scheduler. Raises UnsupportedCheckpoint."""
    solver = generation.get("solver", solvers.own)
    if solver is None:
        raise UnsupportedCheckpoint(
            f"{scheduler_class} is not served; name another solver in the folder's generation.json, "
            f"one of {', '.join(solvers.usable)}"
        )
    if solver not in solvers.usable:
        raise UnsupportedCheckpoint(f"the folder's solver can't be used: {solvers.refusal(solver)}")
    steps, guidance = generation.get("num_inference_steps", 30), generation.get("guidance_scale", 7.5)
    if type(steps) is not int or not 1 <= steps <= solvers.max_steps:
        raise UnsupportedCheckpoint(
            f"generation.json: num_inference_steps is not from 1 to {solvers.max_steps}"
        )
    if type(guidance) not in (int, float) or not 0 <= guidance <= 100:
        raise UnsupportedCheckpoint("generation.json: guidance_scale is not from 0 to 100")
    return Defaults(steps=steps, guidance=float(guidance), solver=solver)
