"""Puts the transformer together: translator, way to the predictor, names, KServe server.

The translator is loaded before any port is opened: one that can't be used ends the process with the reason.
"""

from collections.abc import Sequence
from importlib import metadata

from fastapi import APIRouter
from kserve import ModelRepository
from prometheus_client import REGISTRY, CollectorRegistry

from predictor.contract import Field
from predictor.edge import Api, Server
from transformer.legacy import legacy_router
from transformer.metrics import Metrics, TranslationCache
from transformer.names import Names
from transformer.reply import OUTPUTS
from transformer.request import FIELDS
from transformer.settings import Settings
from transformer.studio import Studio
from transformer.translation.backends import build_translator


def build_server(settings: Settings, registry: CollectorRegistry = REGISTRY) -> Server:
    """Load the translator and return the server, ready to `start`; /metrics shows the default registry.

    Raises:
        ValueError, OSError: the translator's folder can't be used.
    """
    translator = build_translator(
        settings.translator, settings.translator_dir, settings.translation_cache_size
    )
    registry.register(TranslationCache(translator.stats))
    studio = Studio(settings, translator, Metrics(registry))
    models = ModelRepository()
    names = Names(models, studio, "emoji transformer", metadata.version("kserve"))
    api = describe((legacy_router(names),))
    return Server(models, studio, settings.server, api, dataplane=names)


def describe(routers: tuple[APIRouter, ...]) -> Api:
    """What Swagger says, and the routes beside those of KServe."""
    return Api(
        title="emoji transformer",
        version=metadata.version("kserve"),
        description="A Korean or English sentence becomes an emoji picture.\n\nThe models are the "
        "predictor's: `emoji` (the default look), every look (`notoemoji`), every exact version "
        "(`notoemoji@1`) and every alias (`notoemoji@stable`). A Korean prompt is translated first. Every "
        "reply says which English was drawn, by which LoRA version and seed, and which words could not be "
        "translated.",
        infer_description="Draw one picture for each prompt.\n\nAn input holds one value a prompt, or one "
        "value for all; as a request parameter of the same name it holds for all, and the input beats it. "
        "The predictor knows the ranges of its own fields.\n\n"
        f"{_table(FIELDS)}\n\n{_table(OUTPUTS)}\n\n"
        "`image` is base64 text in JSON. It is the file's bytes in gRPC, and where the output is binary (the "
        "parameter `binary_data_output`, or `binary_data` at an output): the outputs then follow the JSON as "
        "raw bytes, and `Inference-Header-Content-Length` is the length of the JSON.\n\n"
        "With `Accept: image/png`, `image/webp` or `image/jpeg` the reply to one prompt is the picture "
        "itself; the rest is in the headers `Emoji-Prompt`, `Emoji-Seed`, `Emoji-Lora`, `Emoji-Language`, "
        "`Emoji-Translation-Backend`, `Emoji-Unknown-Words` and, where one was used, `Emoji-Approximation` "
        "(percent-encoded UTF-8; long texts are cut, and end with …). Several prompts get 406 then.",
        infer_example={
            "inputs": [
                {
                    "name": "prompt",
                    "shape": [2],
                    "datatype": "BYTES",
                    "data": ["하트 눈을 한 고양이", "a blue apple"],
                },
                {"name": "seed", "shape": [2], "datatype": "INT64", "data": [1, 2]},
            ],
            "parameters": {"size": 512, "format": "webp"},
        },
        predict_description="Draw one picture for each instance: a prompt, or an object with `prompt` and "
        "any field of the v2 inputs; `parameters` hold for all instances.\n\nEach prediction is "
        '`{"image": {"b64": …, "format": "png"}, "prompt": the English, "seed": …, "lora": …, "translation": '
        '{"language": …, "backend": …, "unknown_words": […]}}`.',
        predict_example={"instances": ["빨간 사과", {"prompt": "a happy robot", "seed": 7}]},
        routers=routers,
    )


def _table(fields: Sequence[Field]) -> str:
    rows = "\n".join(f"| `{field.name}` | {field.datatype} | {field.description} |" for field in fields)
    return f"| name | datatype | meaning |\n|---|---|---|\n{rows}"
