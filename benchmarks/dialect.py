"""How each server is asked for a picture over HTTP, and how its reply is read.

All of them send raw pixels in base64, so that no server is measured by its picture format.
"""

import base64
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.jobs import Job


@dataclass(frozen=True, slots=True)
class Dialect:
    """`body` gives the JSON of a job, `picture` finds the picture in the JSON of a reply."""

    path: Callable[[Job], str]
    ready: str
    """Answers 200 once the server takes requests."""
    health: str
    """The cheapest route that the server has: how late it answers tells how long its event loop is held."""
    body: Callable[[Job], Any]
    picture: Callable[[Any], dict[str, Any]]

    def pixels(self, reply: Any) -> np.ndarray:
        """uint8 [height, width, 3]."""
        picture = self.picture(reply)
        return np.frombuffer(base64.b64decode(picture["b64"]), np.uint8).reshape(picture["shape"])


def _predictor(job: Job) -> dict[str, Any]:
    instance = {
        "prompt": job.prompt,
        "seed": job.seed,
        "num_inference_steps": job.steps,
        "guidance_scale": job.guidance,
        "lora": job.lora or "none",
    }
    if job.size is not None:
        instance |= {"height": job.size, "width": job.size}
    return {"instances": [instance]}


DIALECTS = {
    "predictor": Dialect(
        lambda job: "/v1/models/emoji:predict",
        "/v2/models/emoji/ready",
        "/v2/health/live",
        _predictor,
        lambda reply: reply["predictions"][0]["image"],
    ),
    "fastapi": Dialect(lambda job: "/draw", "/health", "/health", asdict, lambda reply: reply),
    "bentoml": Dialect(
        lambda job: f"/draw/{job.steps}/{job.guidance:g}/{job.lora}",
        "/readyz",
        "/livez",
        lambda job: {"jobs": [asdict(job)]},
        lambda reply: reply[0],
    ),
    "bentoml-grouped": Dialect(
        lambda job: "/draw",
        "/readyz",
        "/livez",
        lambda job: {"jobs": [asdict(job)]},
        lambda reply: reply[0],
    ),
    "litserve": Dialect(lambda job: "/predict", "/health", "/health", asdict, lambda reply: reply),
    "kserve": Dialect(
        lambda job: "/v1/models/emoji:predict",
        "/v2/models/emoji/ready",
        "/v2/health/live",
        lambda job: {"instances": [asdict(job)]},
        lambda reply: reply["predictions"][0],
    ),
}
