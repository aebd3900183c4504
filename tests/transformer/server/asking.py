"""Requests to a transformer and what its replies hold, over REST and gRPC."""

import io
import json
from typing import Any

import httpx
import numpy as np
from kserve import InferInput, InferRequest
from PIL import Image

from tests.transformer.serving import Process


def body(*prompts: str, **more: Any) -> dict[str, Any]:
    prompt = {"name": "prompt", "shape": [len(prompts)], "datatype": "BYTES", "data": list(prompts)}
    return {"inputs": [prompt], **more}


def message(*prompts: str, model: str = "emoji", **parameters: Any) -> Any:
    """A v2 request as gRPC has it."""
    prompt = InferInput("prompt", [len(prompts)], "BYTES", list(prompts))
    return InferRequest(model, [prompt], parameters=parameters).to_grpc()


def over_http(prompt: str) -> bytes:
    """A v2 request as it goes over a socket."""
    content = json.dumps(body(prompt)).encode()
    head = f"POST /v2/models/emoji/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


def post(server: Process, path: str, json: Any = None, **more: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=json, trust_env=False, timeout=30, **more)


def get(server: Process, path: str) -> httpx.Response:
    return httpx.get(server.url + path, trust_env=False, timeout=30)


def outputs(reply: httpx.Response) -> dict[str, Any]:
    """The tensors of a v2 JSON reply by name."""
    assert reply.status_code == 200, reply.text
    return {output["name"]: output["data"] for output in reply.json()["outputs"]}


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))
