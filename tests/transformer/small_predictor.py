"""A KServe predictor with the real wire contract that paints squares.

Run it as `python -m tests.transformer.small_predictor`. A prompt that is a command makes it misbehave;
`GET /calls` tells what it has seen.
"""

import argparse
import asyncio
import zlib
from typing import Any

import numpy as np
from fastapi import APIRouter
from kserve import InferRequest, InferResponse, Model, ModelRepository

from predictor import contract
from predictor.edge import Api, Server, ServerSettings, configure_logging
from predictor.errors import QueueFull, ServingError

SIDE = 16
MODELS = {name: name if "@" in name else f"{name}@1" for name in ("notoemoji", "notoemoji@1", "openmoji")} | {
    "emoji": "notoemoji@1"
}


def paint(prompt: str, seed: int, lora: str, height: int = SIDE, width: int = SIDE) -> np.ndarray:
    """A square on white; its colour depends on all that makes a picture."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    digest = zlib.crc32(f"{prompt} {seed} {lora}".encode())
    pixels[4:-4, 4:-4] = [digest >> shift & 0x7F for shift in (0, 8, 16)]
    return pixels


class Calls:
    """What this process has seen."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []


class SmallModel(Model):
    platform = "small"
    versions = ("1",)

    def __init__(self, name: str, calls: Calls) -> None:
        super().__init__(name)
        self.ready = True
        self.parameters = {"route": {"notoemoji@1": 100}} if name == "emoji" else {}
        self._calls = calls

    async def predict(self, payload: InferRequest, headers: dict[str, str]) -> InferResponse:
        rows = contract.read_tensors(payload, 4)
        pictures = contract.check_pictures(rows, contract.Limits(max_rows=4))
        call = {"model": self.name, "rows": rows, "headers": headers, "end": None}
        self._calls.seen.append(call)
        try:
            images = await self._draw(pictures)
            call["end"] = "drawn"
        except BaseException as error:
            call["end"] = type(error).__name__
            raise
        return contract.infer_response(
            model_name=self.name,
            model_version="1",
            response_id=payload.id,
            images=images,
            seeds=[picture.seed for picture in pictures],
            loras=[picture.lora or MODELS[self.name] for picture in pictures],
            outputs=("image", "seed", "lora") if pictures[0].prompt != "no lora" else ("image", "seed"),
        )

    async def _draw(self, pictures: list[contract.PictureRequest]) -> np.ndarray:
        match pictures[0].prompt.split():
            case ["sleep", seconds]:
                await asyncio.sleep(float(seconds))
            case ["queue", "full"]:
                raise QueueFull(7)
            case ["fail"]:
                raise ServingError("the secret inside")
            case ["crash"]:
                raise RuntimeError("the secret inside")
            case ["flat"]:
                return np.zeros((len(pictures), 8, 8), np.uint8)
        return np.stack(
            [
                paint(
                    picture.prompt,
                    picture.seed,
                    MODELS[self.name],
                    picture.height or SIDE,
                    picture.width or SIDE,
                )
                for picture in pictures
            ]
        )

    def get_input_types(self) -> list[dict[str, object]]:
        return [field.metadata for field in contract.INPUTS]

    def get_output_types(self) -> list[dict[str, object]]:
        return [field.metadata for field in contract.OUTPUTS]


class Easel:
    """The backend: it is always well."""

    alive = True
    healthy = True

    async def start(self) -> None: ...

    async def stop(self, drain_s: float) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--http_port", type=int)
    parser.add_argument("--grpc_port", type=int)
    ports = parser.parse_args()
    configure_logging("text")
    calls = Calls()
    router = APIRouter()
    router.add_api_route("/calls", lambda: calls.seen)
    models = ModelRepository()
    for name in MODELS:
        models.update(SmallModel(name, calls))
    api = Api(title="small", version="1", description="", infer_description="", routers=(router,))
    settings = ServerSettings(http_port=ports.http_port, grpc_port=ports.grpc_port, grace_period=1)
    Server(models, Easel(), settings, api).start()


if __name__ == "__main__":
    main()
