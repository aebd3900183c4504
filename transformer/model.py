"""The KServe model: translate the prompts, have the predictor draw, make pictures of the pixels.

One object for each name that is served; all share one `Studio`. It knows no sockets and no routes.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from kserve import InferRequest, InferResponse, Model
from numpy.typing import NDArray
from starlette.responses import Response

from predictor.contract import binary_outputs, infer_request, read_instances, read_tensors, requested_outputs
from predictor.edge import event
from predictor.errors import InvalidInput, UpstreamError
from transformer.pictures import MEDIA_TYPES, Finish, Provenance, finish
from transformer.reply import OUTPUTS, Picture, infer_response, picture_headers, predictions
from transformer.request import FIELDS, NotAcceptable, Wish, accepted_format, read_wishes
from transformer.settings import Settings
from transformer.translation.language import LANGUAGE_CHOICES, LanguageChoice
from transformer.translation.translator import (
    Translation,
    Translator,
    translate_prompts,
)
from transformer.upstream import Upstream, connect


class Studio:
    """What all models share: the translator, the way to the predictor, the threads that encode pictures."""

    alive = True
    """There is no work behind this process that could hang."""

    upstream: Upstream
    threads: ThreadPoolExecutor

    def __init__(self, settings: Settings, translator: Translator) -> None:
        self.settings = settings
        self.translator = translator
        self.healthy = False

    async def start(self) -> None:
        """Open the way to the predictor, which itself may come later."""
        self.threads = ThreadPoolExecutor(self.settings.picture_threads, thread_name_prefix="pictures")
        self.upstream = connect(self.settings)
        self.healthy = True

    async def stop(self, drain_s: float) -> None:
        """Close everything; the server has let the requests under way end by now."""
        if self.healthy:
            self.healthy = False
            self.translator.close()
            await self.upstream.close()
            self.threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Job:
    """One request between its stages."""

    wishes: Sequence[Wish]
    translations: Sequence[Translation]
    request: InferRequest
    """What the predictor is asked for; all prompts in it are English."""
    reply: Literal["v1", "v2", "picture"]
    outputs: tuple[str, ...]
    """The outputs of a v2 reply."""
    base64: bool
    """Whether the pictures in a v2 reply are text, as JSON needs them."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What the predictor drew for a job: uint8 [N, H, W, 3], and by which seeds and LoRAs."""

    job: Job
    pixels: NDArray[np.uint8]
    seeds: Sequence[int]
    loras: Sequence[str]
    model_version: str


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
            InvalidInput: a field is missing, malformed or out of range.
            NotAcceptable: the Accept header asks for what this reply cannot be.
        """
        settings = self._studio.settings
        fields = event()
        fields |= {"model": self.name}
        reply: Literal["v1", "v2"] = "v1"
        request_id = fields.get("request_id", "")
        outputs: tuple[str, ...] = ()
        base64 = False
        picture = None
        if isinstance(payload, InferRequest):
            reply, request_id = "v2", payload.id
            rows = read_tensors(payload, settings.max_rows, FIELDS)
            outputs = requested_outputs(payload, OUTPUTS)
            if not payload.from_grpc:
                base64 = "image" not in binary_outputs(payload, ["image"])
                picture = accepted_format(headers.get("accept", ""))
        else:
            rows = read_instances(payload, settings.max_rows, FIELDS)
        wishes = read_wishes(rows, settings, default_format=picture or "png")
        if picture is not None:
            if len(wishes) > 1:
                raise NotAcceptable("Accept: one picture has an image type; ask for JSON when there are more")
            if wishes[0].finish.format != picture:
                raise NotAcceptable(f"Accept: the format asked for is {wishes[0].finish.format}")

        prompts, negatives = await self._translate(wishes)
        fields |= {
            "rows": len(wishes),
            "translated": sum(translation.backend != "none" for translation in prompts),
            "unknown_words": sum(len(translation.unknown) for translation in prompts),
        }
        if settings.log_prompts:
            fields |= {
                "prompts": [(wish.picture.prompt, t.english) for wish, t in zip(wishes, prompts, strict=True)]
            }
        pictures = [
            replace(wish.picture, prompt=prompt.english, negative_prompt=negative)
            for wish, prompt, negative in zip(wishes, prompts, negatives, strict=True)
        ]
        request = infer_request(self._upstream_name, pictures, request_id)
        return Job(wishes, prompts, request, "picture" if picture else reply, outputs, base64)

    async def predict(self, payload: Job, headers: Mapping[str, str]) -> Drawing:
        """Have the predictor draw. Raises what `Upstream.infer` raises."""
        limits = [wish.timeout_ms for wish in payload.wishes if wish.timeout_ms is not None]
        request_id = event().get("request_id")
        response = await self._studio.upstream.infer(
            payload.request,
            {**headers, "x-request-id": request_id} if request_id else headers,
            min(limits) / 1000 if limits else None,
        )
        return _read_drawing(payload, response)

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
                prompt=translation.english,
                seed=seed,
                lora=lora,
                language=translation.language,
                translation_backend=translation.backend,
                unknown_words=translation.unknown,
            )
            for file, wish, translation, seed, lora in zip(
                files, job.wishes, job.translations, result.seeds, result.loras, strict=True
            )
        ]
        if job.reply == "v1":
            return predictions(pictures)
        if job.reply == "picture":
            (picture,) = pictures
            return Response(
                picture.file, media_type=MEDIA_TYPES[picture.format], headers=picture_headers(picture)
            )
        return infer_response(
            pictures,
            model_name=self.name,
            model_version=result.model_version,
            response_id=job.request.id,
            outputs=job.outputs,
            base64=job.base64,
        )

    async def encode(self, drawing: Drawing, finishes: Sequence[Finish]) -> list[bytes]:
        """The pictures of a drawing as files, made in threads."""
        loop = asyncio.get_running_loop()
        job = drawing.job
        return await asyncio.gather(
            *(
                loop.run_in_executor(self._studio.threads, finish, pixels, how, provenance)
                for pixels, how, provenance in zip(
                    drawing.pixels,
                    finishes,
                    [
                        Provenance(translation.english, lora, seed, _source(wish, translation))
                        for wish, translation, lora, seed in zip(
                            job.wishes, job.translations, drawing.loras, drawing.seeds, strict=True
                        )
                    ],
                    strict=True,
                )
            )
        )

    def get_input_types(self) -> list[dict[str, object]]:
        """The inputs, for the model's metadata."""
        return [field.metadata for field in FIELDS]

    def get_output_types(self) -> list[dict[str, object]]:
        """The outputs, for the model's metadata."""
        return [field.metadata for field in OUTPUTS]

    async def _translate(self, wishes: Sequence[Wish]) -> tuple[list[Translation], list[str]]:
        """The prompts with their translations, and the negative prompts in English."""
        texts = [(wish.language, wish.picture.prompt) for wish in wishes]
        texts += [(wish.language, wish.picture.negative_prompt) for wish in wishes]
        found: dict[tuple[LanguageChoice, str], Translation] = {}
        for choice in cast("tuple[LanguageChoice, ...]", LANGUAGE_CHOICES):
            wanted = list({text for language, text in texts if language == choice and text.strip()})
            translations = await translate_prompts(self._studio.translator, wanted, choice) if wanted else []
            found |= {
                (choice, text): translation for text, translation in zip(wanted, translations, strict=True)
            }

        prompts, negatives = [], []
        for wish in wishes:
            prompt = found[wish.language, wish.picture.prompt]
            if not prompt.english.strip():
                raise InvalidInput("prompt", f"no word of it could be translated: {' '.join(prompt.unknown)}")
            negative = found.get((wish.language, wish.picture.negative_prompt))
            unknown = prompt.unknown + (negative.unknown if negative else ())
            prompts.append(replace(prompt, unknown=tuple(dict.fromkeys(unknown))))
            negatives.append(negative.english if negative else "")
        return prompts, negatives


def _source(wish: Wish, translation: Translation) -> dict[str, str]:
    return {"source_prompt": wish.picture.prompt} if translation.backend != "none" else {}


def _read_drawing(job: Job, response: InferResponse) -> Drawing:
    """Take the pixels out of the predictor's answer.

    Raises:
        UpstreamError: the answer is not what the contract says.
    """
    count = len(job.wishes)
    try:
        image, seed, lora = (response.get_output_by_name(name) for name in ("image", "seed", "lora"))
        pixels = image.as_numpy()
        seeds = [int(value) for value in seed.as_numpy()]
        loras = [value.decode() if isinstance(value, bytes) else str(value) for value in lora.as_numpy()]
    except (AttributeError, ValueError, TypeError, OverflowError) as error:
        raise UpstreamError("the predictor's answer cannot be read") from error
    shape_is_right = (
        pixels.ndim == 4 and pixels.shape[0] == count and pixels.shape[3] == 3 and pixels.size > 0
    )
    if pixels.dtype != np.uint8 or not shape_is_right or len(seeds) != count or len(loras) != count:
        raise UpstreamError("the predictor's answer is not what was asked for")
    return Drawing(job, pixels, seeds, loras, response.model_version or "")
