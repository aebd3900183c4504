"""The KServe model: translate the prompts, have the predictor draw, make pictures of the pixels.

One object for each name that is served; all share one `Studio`. It knows no sockets and no routes.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from kserve import InferRequest, InferResponse, Model
from starlette.responses import Response

from predictor.contract import (
    EXACTLY,
    MAX_TIMEOUT,
    Label,
    binary_outputs,
    infer_request,
    read_instances,
    read_tensors,
    requested_outputs,
    tenant,
    with_key,
)
from predictor.edge import event, time_left
from predictor.errors import DeadlineExceeded, ServingError
from transformer.drawing import Drawing, Job, read_drawing
from transformer.pictures import MEDIA_TYPES, Finish, Provenance
from transformer.reply import OUTPUTS, Picture, infer_response, picture_headers, predictions
from transformer.request import FIELDS, NotAcceptable, Wish, accepted_formats, read_wishes
from transformer.studio import English, Studio


class EmojiModel(Model):
    """One name. `upstream_name` is the predictor's name for it."""

    def __init__(self, name: str, upstream_name: str, studio: Studio) -> None:
        super().__init__(name)
        self.ready = True
        self._upstream_name = upstream_name
        self._studio = studio

    def validate(self, payload: Job) -> Job:
        """The SDK's check of a payload between preprocess and predict; a job has been checked."""
        return payload

    async def preprocess(self, payload: dict[str, Any] | InferRequest, headers: Mapping[str, str]) -> Job:
        """Read the request and translate its prompts.

        Raises:
            InvalidInput: a field is missing, malformed or out of range, or nothing could be translated.
            DeadlineExceeded, QueueFull: the translator doesn't come to it, in time or at all.
            NotAcceptable: the Accept header asks for what this reply cannot be.
        """
        arrived = time.monotonic()
        log_line = event()
        log_line["model"] = self.name
        settings = self._studio.settings
        tenant(headers)  # one that can't be passed on is refused, lest its rows be another's
        if isinstance(payload, InferRequest):
            rows = with_key(read_tensors(payload, settings.max_rows, FIELDS), headers)
            base64 = not payload.from_grpc and "image" not in binary_outputs(payload, ["image"])
            formats = () if payload.from_grpc else accepted_formats(headers.get("accept", ""))
            reply: Literal["v1", "v2", "picture"] = "picture" if formats else "v2"
            request_id = payload.id
        else:
            rows = with_key(read_instances(payload, settings.max_rows, FIELDS), headers)
            base64, formats, reply, request_id = False, (), "v1", None
        wishes = read_wishes(rows, settings, default_format=formats[0] if formats else "png")
        outputs: tuple[str, ...] = ()
        if isinstance(payload, InferRequest):
            outputs = requested_outputs(payload, [wish.picture for wish in wishes], OUTPUTS)
        if reply == "picture":
            _check_picture(wishes, formats)

        limits = [limit for wish in wishes if (limit := wish.timeout) is not None]
        until = arrived + min([*limits, time_left()])
        try:
            async with asyncio.timeout(None if math.isinf(until) else until - time.monotonic()) as timer:
                english = await self._studio.translate(wishes)
        except TimeoutError:
            if not timer.expired():
                raise
            raise DeadlineExceeded("the time was over before the prompts had been translated") from None
        log_line |= {
            "rows": len(wishes),
            "translated": sum(words.backend != "none" for words in english),
            "unknown_words": sum(len(words.unknown_words) for words in english),
        }
        if settings.log_prompts:
            log_line["prompts"] = [wish.picture.prompt for wish in wishes]
            log_line["english"] = [words.prompt for words in english]
        left = until - time.monotonic()
        if left <= 0:
            raise DeadlineExceeded("the time was over before the prompts had been translated")
        timeout = None if math.isinf(left) else min(left, MAX_TIMEOUT)
        pictures = [
            replace(
                wish.picture,
                prompt=words.prompt,
                negative_prompt=words.negative_prompt,
                timeout=timeout,
            )
            for wish, words in zip(wishes, english, strict=True)
        ]
        request = infer_request(self._upstream_name, pictures, request_id or log_line.get("request_id"))
        return Job(wishes, english, request, timeout, reply, outputs, base64, arrived, time.monotonic())

    async def predict(self, payload: Job, headers: Mapping[str, str]) -> Drawing:
        """Have the predictor draw. Raises what `Upstream.infer` raises."""
        request_id = event().get("request_id")
        try:
            response = await self._studio.upstream.infer(
                payload.request,
                {**headers, "x-request-id": request_id} if request_id else headers,
                payload.timeout,
            )
            return read_drawing(payload, response)
        except ServingError as error:
            if error.http_status >= 500:
                seconds = time.monotonic() - payload.arrived
                for _ in payload.wishes:  # nobody has said which version it would have been
                    self._studio.statistics.failed(self.name, "", seconds)
            raise

    async def postprocess(
        self, result: Drawing, headers: Mapping[str, str]
    ) -> dict[str, list[dict[str, object]]] | InferResponse | Response:
        """Encode the pictures and say where they come from."""
        job = result.job
        files = await self.encode(result, [wish.finish for wish in job.wishes])
        pictures = [
            Picture(
                file=file,
                format=wish.finish.format,
                prompt=words.prompt,
                seed=seed,
                lora=lora,
                language=words.language,
                translation_backend=words.backend,
                unknown_words=words.unknown_words,
                approximation=label,
            )
            for file, wish, words, seed, lora, label in zip(
                files,
                job.wishes,
                job.english,
                result.seeds,
                result.loras,
                result.approximations,
                strict=True,
            )
        ]
        self.done(result)
        if job.reply == "v1":
            return predictions(pictures)
        if job.reply == "picture":
            (picture,) = pictures
            media_type = MEDIA_TYPES[picture.format]
            return Response(picture.file, media_type=media_type, headers=picture_headers(picture))
        return infer_response(
            pictures,
            model_name=self.name,
            model_version=result.model_version,
            response_id=job.request.id,
            outputs=job.outputs,
            base64=job.base64,
        )

    async def encode(self, drawing: Drawing, finishes: Sequence[Finish]) -> list[bytes]:
        """The pictures of a drawing as files."""
        job = drawing.job
        origins = [
            Provenance(
                words.prompt,
                lora,
                seed,
                _extra(wish, words, label),
            )
            for wish, words, lora, seed, label in zip(
                job.wishes, job.english, drawing.loras, drawing.seeds, drawing.approximations, strict=True
            )
        ]
        return await self._studio.encode(drawing.pixels, finishes, origins)

    def done(self, drawing: Drawing) -> None:
        """Count a drawing whose files are all there."""
        job, now = drawing.job, time.monotonic()
        translating, waiting, encoding = (
            job.translated - job.arrived,
            drawing.drawn - job.translated,
            now - drawing.drawn,
        )
        self._studio.metrics.done(translating, waiting, encoding)
        stages = {"compute_input": translating, "compute_infer": waiting, "compute_output": encoding}
        for label in drawing.labels:
            self._studio.statistics.drawn(self.name, label, now - job.arrived, stages)

    @property
    def statistics(self) -> dict[str, object]:
        """What is counted under this name: the fields of the edge's StatsReply."""
        return {"model_stats": self._studio.statistics.of(self.name)}

    def get_input_types(self) -> list[dict[str, object]]:
        """The inputs, for the model's metadata."""
        return [field.metadata for field in FIELDS]

    def get_output_types(self) -> list[dict[str, object]]:
        """The outputs, for the model's metadata."""
        return [field.metadata for field in OUTPUTS]


def _extra(wish: Wish, words: English, approximation: Label) -> dict[str, str]:
    """What a picture's own metadata say beside prompt, model and seed."""
    extra = {"source_prompt": wish.picture.prompt} if words.backend != "none" else {}
    return extra if approximation == EXACTLY else extra | {"approximation": str(approximation["name"])}


def _check_picture(wishes: Sequence[Wish], formats: Sequence[str]) -> None:
    """A reply with an image's media type is one picture, in one of the accepted formats."""
    if len(wishes) > 1:
        raise NotAcceptable("Accept: one picture has an image type; ask for JSON when there are more")
    if wishes[0].finish.format not in formats:
        raise NotAcceptable(f"Accept: the format asked for is {wishes[0].finish.format}")
