"""The model's stages, one at a time and without a server: a request is prepared, drawn in black, answered."""

import asyncio
from typing import Any

import numpy as np
from kserve import InferInput, InferRequest, InferResponse

from predictor.contract import infer_response, read_tensors
from transformer.drawing import Drawing, Job
from transformer.model import EmojiModel
from transformer.request import FIELDS
from transformer.settings import Settings

LIMITS = Settings("nowhere", max_rows=3, max_prompt_chars=40, max_picture_size=256)


def v2(prompts: list[str], parameters: dict[str, Any] | None = None, **tensors: Any) -> InferRequest:
    inputs = [InferInput("prompt", [len(prompts)], "BYTES", prompts)]
    datatypes = {field.name: field.datatype for field in FIELDS}
    inputs += [InferInput(name, [len(values)], datatypes[name], values) for name, values in tensors.items()]
    return InferRequest("notoemoji", inputs, "the-id", parameters=parameters)


def prepare(model: EmojiModel, payload: Any, headers: dict[str, str] | None = None) -> Job:
    return asyncio.run(model.preprocess(payload, headers or {}))


def rows_sent(job: Job) -> list[dict[str, Any]]:
    """What the predictor would read."""
    return read_tensors(job.request, 8)


def reply_to(model: EmojiModel, job: Job, **more: Any) -> Any:
    """The reply when the predictor draws black squares."""
    count = len(job.wishes)
    answer: dict[str, Any] = {
        "images": np.zeros((count, 8, 8, 3), np.uint8),
        "seeds": [row["seed"] for row in rows_sent(job)],
        "loras": ["notoemoji@2"] * count,
        "outputs": ["image", "seed", "lora"],
    }
    response = infer_response(model_name="x", model_version="2", response_id="x", **(answer | more))

    class Predictor:
        async def infer(self, *_: object) -> InferResponse:
            return InferResponse.from_grpc(response.to_grpc())

    async def run() -> Any:
        studio = model._studio
        kept, studio.upstream = studio.upstream, Predictor()  # type: ignore[assignment]
        try:
            drawing: Drawing = await model.predict(job, {})
        finally:
            studio.upstream = kept
        return await model.postprocess(drawing, {})

    return asyncio.run(run())
