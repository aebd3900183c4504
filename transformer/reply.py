"""What a caller gets back: finished pictures and where they come from, as OIP v2 outputs or v1 predictions.

It knows nothing of how they were made.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from kserve import InferOutput, InferResponse

from predictor.contract import APPROXIMATION, EXACTLY, Field, Label
from predictor.contract import OUTPUTS as DRAWN

OUTPUTS = (
    Field("image", "BYTES", (-1,), "the picture's file: base64 text in JSON, its bytes in raw tensors"),
    Field("prompt", "BYTES", (-1,), "the English that was drawn"),
    Field("seed", "INT64", (-1,), "the seed each picture was drawn with"),
    Field("lora", "BYTES", (-1,), "name@version of the LoRA that drew it, or none"),
    Field("language", "BYTES", (-1,), "of the prompt as it came: ko or en"),
    Field("translation_backend", "BYTES", (-1,), "glossary, seq2seq, or none where the prompt was English"),
    Field("unknown_words", "BYTES", (-1,), "a JSON list of the words that could not be translated"),
    *(field for field in DRAWN if field.name == APPROXIMATION),
)

MAX_HEADER_BYTES = 1500
"""Of a text in a header. Proxies take 4 KiB for all headers of a reply, if they aren't told to take more."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One finished picture."""

    file: bytes
    format: str
    prompt: str
    seed: int
    lora: str
    language: str
    translation_backend: str
    unknown_words: tuple[str, ...]
    approximation: Label


def infer_response(
    pictures: Sequence[Picture],
    *,
    model_name: str,
    model_version: str,
    response_id: str,
    outputs: Sequence[str],
    base64: bool,
) -> InferResponse:
    """The reply to a v2 request with the named outputs; `base64` writes the files as text, for JSON."""
    texts = {
        "image": [b64encode(picture.file) if base64 else picture.file for picture in pictures],
        "prompt": [picture.prompt.encode() for picture in pictures],
        "lora": [picture.lora.encode() for picture in pictures],
        "language": [picture.language.encode() for picture in pictures],
        "translation_backend": [picture.translation_backend.encode() for picture in pictures],
        "unknown_words": [_json(picture.unknown_words).encode() for picture in pictures],
        "approximation": [_json(picture.approximation).encode() for picture in pictures],
    }
    arrays: dict[str, np.ndarray] = {name: np.array(values, np.object_) for name, values in texts.items()}
    arrays["seed"] = np.array([picture.seed for picture in pictures], np.int64)
    datatypes = {field.name: field.datatype for field in OUTPUTS}
    return InferResponse(
        response_id=response_id,
        model_name=model_name,
        model_version=model_version,
        infer_outputs=[
            InferOutput(name, list(arrays[name].shape), datatypes[name], data=arrays[name])
            for name in outputs
        ],
    )


def predictions(pictures: Sequence[Picture]) -> dict[str, list[dict[str, object]]]:
    """The reply to a v1 request."""
    return {
        "predictions": [
            {
                "image": {"b64": b64encode(picture.file).decode("ascii"), "format": picture.format},
                "prompt": picture.prompt,
                "seed": picture.seed,
                "lora": picture.lora,
                "translation": {
                    "language": picture.language,
                    "backend": picture.translation_backend,
                    "unknown_words": list(picture.unknown_words),
                },
                **({} if picture.approximation == EXACTLY else {"approximation": picture.approximation}),
            }
            for picture in pictures
        ]
    }


def picture_headers(picture: Picture) -> dict[str, str]:
    """What a reply that is nothing but a picture says beside it.

    Texts are percent-encoded UTF-8, since a header holds neither Korean nor line breaks. Long ones end with
    "…"; the JSON reply has them in full.
    """
    headers = {
        "Emoji-Prompt": _beginning(picture.prompt, safe=" ,'"),
        "Emoji-Seed": str(picture.seed),
        "Emoji-Lora": quote(picture.lora, safe="@"),
        "Emoji-Language": picture.language,
        "Emoji-Translation-Backend": picture.translation_backend,
        "Emoji-Unknown-Words": _first(picture.unknown_words),
    }
    if picture.approximation != EXACTLY:
        headers["Emoji-Approximation"] = quote(_json(picture.approximation), safe=' ,:{}"')
    return headers


def _beginning(text: str, safe: str) -> str:
    """As much of a text as a header may hold."""
    encoded = ""
    for character in text:
        encoded += quote(character, safe=safe)
        if len(encoded) > MAX_HEADER_BYTES:
            return encoded[: -len(quote(character, safe=safe))] + quote("…")
    return encoded


def _first(words: Sequence[str]) -> str:
    """A JSON list of as many words as a header may hold."""
    kept: list[str] = []
    for word in words:
        if len(quote(_json([*kept, word]), safe="")) > MAX_HEADER_BYTES:
            kept.append("…")
            break
        kept.append(word)
    return quote(_json(kept), safe="")


def _json(value: Sequence[str] | Label) -> str:
    return json.dumps(value, ensure_ascii=False)
