"""Building the reply: Open Inference Protocol outputs, or KServe v1 predictions.

The pixels stay raw: base64 of the bytes in v1, a tensor in v2. Pictures' file formats are not known here.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from kserve import InferOutput, InferResponse
from numpy.typing import NDArray

from predictor.contract.fields import EXACT

Label = Mapping[str, object]
"""What is said of a picture's approximation: at least its `name`."""

EXACTLY: Label = {"name": EXACT}


def infer_response(
    *,
    model_name: str,
    model_version: str,
    response_id: str,
    images: NDArray[np.uint8],
    seeds: Sequence[int],
    loras: Sequence[str],
    outputs: Sequence[str],
    approximations: Sequence[Label] | None = None,
) -> InferResponse:
    """The reply to a v2 request.

    Args:
        model_name: the name that was asked for.
        model_version: the LoRA's version behind that name, or "" for the plain base.
        response_id: the request's id.
        images: [N, height, width, 3].
        seeds: N seeds.
        loras: N names "name@version".
        outputs: which outputs to send, in this order.
        approximations: N labels; None: all are exact.
    """
    arrays: dict[str, tuple[str, NDArray[Any]]] = {
        "image": ("UINT8", images),
        "seed": ("INT64", np.array(seeds, dtype=np.int64)),
        "lora": ("BYTES", np.array([lora.encode() for lora in loras], dtype=np.object_)),
        "approximation": (
            "BYTES",
            np.array(list(map(orjson.dumps, approximations or [EXACTLY] * len(seeds))), dtype=np.object_),
        ),
    }
    return InferResponse(
        response_id=response_id,
        model_name=model_name,
        model_version=model_version,
        infer_outputs=[
            InferOutput(name, list(arrays[name][1].shape), arrays[name][0], data=arrays[name][1])
            for name in outputs
        ],
    )


def predictions(
    images: NDArray[np.uint8], seeds: Sequence[int], loras: Sequence[str], approximations: Sequence[Label]
) -> dict[str, list[dict[str, object]]]:
    """The reply to a v1 request; each picture is base64 of its raw pixels [height, width, 3].

    One that was approximated has its label.
    """
    return {
        "predictions": [
            {
                "image": {
                    "b64": base64.b64encode(image.tobytes()).decode("ascii"),
                    "shape": list(image.shape),
                    "datatype": "UINT8",
                },
                "seed": seed,
                "lora": lora,
                **({"approximation": label} if label != EXACTLY else {}),
            }
            for image, seed, lora, label in zip(images, seeds, loras, approximations, strict=True)
        ]
    }
