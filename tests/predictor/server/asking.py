"""Requests to a predictor and what its replies hold, over REST and gRPC."""

import re
from collections import Counter
from typing import Any

import httpx
import numpy as np
from kserve import (
    InferResponse,
)

from predictor.contract import PictureRequest, infer_request
from tests.predictor.serving import Predictor

LONG = 300
"""Steps that take longer than any test waits for."""

MEASURED = {"pictures": 2, "right_emoji": 0.5}
"""What the model's folder says of its approximation block-cache:2."""


def body(*prompts: str, steps: int = 2, **parameters: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "prompt", "shape": [len(prompts)], "datatype": "BYTES", "data": list(prompts)}],
        "parameters": {"num_inference_steps": steps, **parameters},
    }


def drawn(reply: httpx.Response) -> dict[str, Any]:
    """The outputs of a v2 JSON reply as arrays and lists."""
    assert reply.status_code == 200, reply.text
    outputs = {output["name"]: output for output in reply.json()["outputs"]}
    found = {name: output["data"] for name, output in outputs.items()}
    if "image" in outputs:
        found["image"] = np.array(found["image"], np.uint8).reshape(outputs["image"]["shape"])
    return found


def message(*prompts: str, model: str = "emoji", version: str = "", steps: int = 2, **fields: Any) -> Any:
    pictures = [PictureRequest(prompt, num_inference_steps=steps, **fields) for prompt in prompts]
    request = infer_request(model, pictures)
    request.id, request.model_version = "", version
    return request.to_grpc()


def outputs(reply: Any) -> dict[str, np.ndarray]:
    return {output.name: output.as_numpy() for output in InferResponse.from_grpc(reply).outputs}


def counted(server: Predictor) -> Counter[tuple[str, str]]:
    """Requests by model and status."""
    found = re.findall(
        r'^emoji_requests_total\{model="(.*)",status="(.*)"\} (\S+)$',
        server.http.get("/metrics").text,
        re.MULTILINE,
    )
    return Counter({(model, status): int(float(count)) for model, status, count in found})
