"""Replies of v1 and v2, by REST and by gRPC."""

import base64
from typing import Any

import numpy as np
import orjson
import pytest
from kserve import InferResponse

from predictor.contract import EXACTLY, encode_body, infer_response, predictions


def response(outputs: tuple[str, ...] = ("image", "seed", "lora")) -> InferResponse:
    return infer_response(
        model_name="notoemoji",
        model_version="3",
        response_id="r",
        images=np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3),
        seeds=[1, 2**63 - 1],
        loras=["notoemoji@3", "none"],
        outputs=outputs,
    )


@pytest.mark.parametrize("binary", [(), ("image",), ("image", "seed", "lora")])
def test_a_rest_reply_is_read_by_the_sdk(binary: tuple[str, ...]) -> None:
    body, json_length = encode_body(response(), frozenset(binary))
    assert (json_length is None) == (not binary)
    read_back = InferResponse.from_bytes(body, len(body) if json_length is None else json_length)
    image, seed, lora = read_back.outputs
    np.testing.assert_array_equal(image.as_numpy(), response().outputs[0].data)
    assert image.as_numpy().dtype == np.uint8
    assert seed.as_numpy().tolist() == [1, 2**63 - 1]
    assert lora.data == ["notoemoji@3", "none"]
    assert (read_back.model_name, read_back.id) == ("notoemoji", "r")


def test_a_grpc_reply_is_raw() -> None:
    message = response(("lora", "image")).to_grpc()
    assert [output.name for output in message.outputs] == ["lora", "image"]
    assert message.raw_output_contents[1] == bytes(range(120))
    assert (message.model_version, message.id) == ("3", "r")


def test_predictions_hold_raw_pixels_in_base64() -> None:
    images = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    first, second = predictions(images, [1, 2], ["a@1", "none"], [EXACTLY] * 2)["predictions"]
    assert (first["seed"], first["lora"], second["lora"]) == (1, "a@1", "none")
    picture: Any = second["image"]
    pixels = np.frombuffer(base64.b64decode(picture["b64"]), picture["datatype"].lower())
    np.testing.assert_array_equal(pixels.reshape(picture["shape"]), images[1])


LABEL = {"name": "few-steps", "quality": {"right_emoji": 0.9}}


def test_an_approximation_is_labelled_and_an_exact_picture_is_not() -> None:
    images = np.zeros((2, 4, 5, 3), np.uint8)
    exact, approximate = predictions(images, [1, 2], ["a@1", "a@1"], [EXACTLY, LABEL])["predictions"]
    assert "approximation" not in exact
    assert approximate["approximation"] == LABEL
    reply = infer_response(
        model_name="emoji",
        model_version="1",
        response_id="r",
        images=images,
        seeds=[1, 2],
        loras=["a@1"] * 2,
        approximations=[EXACTLY, LABEL],
        outputs=("approximation",),
    )
    assert [orjson.loads(text) for text in reply.outputs[0].data] == [{"name": "none"}, LABEL]
