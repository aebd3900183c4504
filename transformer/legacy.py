"""The calls of the service that this one replaces: `POST /eng_submit` and `POST /kor_submit`.

They take the old fields and give the old reply; everything else is the model's work.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from predictor.contract import parse_json
from predictor.errors import InvalidInput
from transformer.names import Names
from transformer.pictures import Finish


class OldRequest(BaseModel):
    """The old fields; others are ignored, as they were."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "openmoji",
                "prompt": "빨간 사과",
                "guidance_scale": 15,
                "size": 512,
                "num_inference_steps": 30,
                "num_images_per_prompt": 1,
            }
        }
    )

    prompt: str
    model: str = Field("openmoji", description="a model name, as on all other calls")
    guidance_scale: float = Field(15, description="how closely to follow the prompt")
    size: int = Field(
        512, description="side of the pictures; they are drawn at the model's own size and scaled to it"
    )
    num_inference_steps: int = 30
    num_images_per_prompt: int = Field(1, description="each with a seed of its own")


class OldReply(BaseModel):
    """Base64 of PNG files; `removes` are the same pictures with a transparent background."""

    images: list[str]
    removes: list[str]


def legacy_router(names: Names) -> APIRouter:
    """The two routes, served by the models of `names`."""
    router = APIRouter(tags=["replaced system"])
    schema = {"application/json": {"schema": OldRequest.model_json_schema()}}
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": schema}}

    @router.post("/eng_submit", openapi_extra=extra)
    async def eng_submit(request: Request) -> OldReply:
        """Draw an English prompt; it is never translated."""
        return await _submit(names, await request.body(), request.headers, "en")

    @router.post("/kor_submit", openapi_extra=extra)
    async def kor_submit(request: Request) -> OldReply:
        """Draw a Korean prompt. An English one passes as it is."""
        return await _submit(names, await request.body(), request.headers, "auto")

    return router


async def _submit(names: Names, body: bytes, headers: Mapping[str, str], language: str) -> OldReply:
    try:
        old = OldRequest.model_validate(parse_json(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise InvalidInput(".".join(map(str, first["loc"])) or "body", first["msg"]) from None
    count, most = old.num_images_per_prompt, names.settings.max_rows
    if not 1 <= count <= most:
        raise InvalidInput("num_images_per_prompt", f"must be from 1 to {most}, got {count}")

    model = await names.find(old.model)
    instance = {
        "prompt": old.prompt,
        "language": language,
        "guidance_scale": old.guidance_scale,
        "num_inference_steps": old.num_inference_steps,
        "size": old.size,
    }
    job = await model.preprocess({"instances": [instance] * count}, headers)
    drawing = await model.predict(job, headers)
    images: list[Finish] = [wish.finish for wish in job.wishes]
    removes = [replace(how, transparent=True) for how in images]
    reply = OldReply(
        images=[b64encode(file).decode("ascii") for file in await model.encode(drawing, images)],
        removes=[b64encode(file).decode("ascii") for file in await model.encode(drawing, removes)],
    )
    model.done(drawing)
    return reply
