"""Asking the service for a picture, by each of its protocols, at an ingress that routes by the host's name.

Every way gives the same Reply; nothing is tried again, so a failure is a failure. It knows no Kubernetes.
"""

import base64
import io
from dataclasses import dataclass, replace
from typing import Any

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from PIL import Image

TIMEOUT_S = 300.0
PNG_END = b"IEND\xaeB`\x82"
"""Pillow reads a picture that is cut off near its end without a word."""


@dataclass(frozen=True, slots=True)
class Question:
    """One sentence with all that decides its picture; None: the server's own defaults."""

    prompt: str
    seed: int
    model: str = "emoji"
    steps: int | None = None
    guidance: float | None = None
    key: str | None = None
    """Decides where the model is a weighted alias."""

    def of(self, model: str) -> "Question":
        """The same for another model."""
        return replace(self, model=model)

    @property
    def parameters(self) -> dict[str, int | float | str]:
        """The request parameters of the protocol."""
        given = {
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance,
            "sticky_key": self.key,
        }
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole picture and what the service says of it."""

    png: bytes
    lora: str
    """The exact version that drew it, such as "openmoji@1"."""
    english: str
    seed: int

    @classmethod
    def of_v2(cls, body: Any) -> "Reply":
        """Of a reply of the Open Inference Protocol as JSON. Raises KeyError and the like."""
        outputs = {output["name"]: output["data"][0] for output in body["outputs"]}
        image = base64.b64decode(outputs["image"], validate=True)
        return cls(image, outputs["lora"], outputs["prompt"], outputs["seed"])

    @property
    def pixels(self) -> np.ndarray:
        """uint8 [H, W, 3] on white."""
        assert self.png.endswith(PNG_END)
        with Image.open(io.BytesIO(self.png)) as picture:
            assert picture.format == "PNG"
            return np.array(picture.convert("RGB"))


@dataclass(frozen=True, slots=True)
class Ingress:
    """Where requests go in: an address that many services share, and the names of this one."""

    address: str
    host: str
    grpc_host: str

    def http(self) -> httpx.AsyncClient:
        """A client that sends every request to this service; at most one connection a request under way."""
        return httpx.AsyncClient(
            base_url=f"http://{self.address}",
            headers={"Host": self.host},
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_connections=None),
            trust_env=False,
        )

    async def v2(self, client: httpx.AsyncClient, question: Question) -> Reply:
        """By the Open Inference Protocol over REST. Raises httpx.HTTPError, and KeyError and the like."""
        return Reply.of_v2(await self.v2_json(client, question))

    async def v2_json(self, client: httpx.AsyncClient, question: Question) -> Any:
        """The same, as the whole JSON that came."""
        inputs = [
            {"name": "prompt", "datatype": "BYTES", "shape": [1], "data": [question.prompt]},
            {"name": "seed", "datatype": "INT64", "shape": [1], "data": [question.seed]},
        ]
        response = await client.post(
            f"/v2/models/{question.model}/infer", json={"inputs": inputs, "parameters": question.parameters}
        )
        return _json(response)

    async def v1(self, client: httpx.AsyncClient, question: Question) -> Reply:
        """By KServe's v1 protocol."""
        instance = {"prompt": question.prompt, "seed": question.seed}
        response = await client.post(
            f"/v1/models/{question.model}:predict",
            json={"instances": [instance], "parameters": question.parameters},
        )
        (prediction,) = _json(response)["predictions"]
        image = base64.b64decode(prediction["image"]["b64"], validate=True)
        return Reply(image, prediction["lora"], prediction["prompt"], prediction["seed"])

    async def grpc(self, question: Question) -> Reply:
        """By the Open Inference Protocol over gRPC. Raises grpc.RpcError."""
        prompt, seed = InferInput("prompt", [1], "BYTES"), InferInput("seed", [1], "INT64")
        prompt.set_data_from_numpy(np.array([question.prompt.encode()], dtype=object))
        seed.set_data_from_numpy(np.array([question.seed], dtype=np.int64))
        request = InferRequest(question.model, [prompt, seed])
        client = InferenceGRPCClient(
            self.address,
            timeout=TIMEOUT_S,
            retries=0,
            channel_args=[("grpc.default_authority", self.grpc_host)],
        )
        try:
            response = await client.infer(request)
        finally:
            await client.close()
        outputs = {output.name: output.as_numpy()[0] for output in response.outputs}
        return Reply(
            outputs["image"], outputs["lora"].decode(), outputs["prompt"].decode(), int(outputs["seed"])
        )


FAILURES = (httpx.HTTPError, grpc.RpcError, ValueError, KeyError, IndexError, OSError, AssertionError)
"""What a request ends with that got no whole picture."""


def _json(response: httpx.Response) -> Any:
    if response.is_error:
        raise httpx.HTTPStatusError(
            f"{response.status_code}: {response.text[:200]}", request=response.request, response=response
        )
    return response.json()
