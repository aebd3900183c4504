"""Answers of the predictor that are not what the contract says."""

from typing import Any

import numpy as np
import pytest
from kserve import InferResponse

from predictor.contract import infer_response
from predictor.errors import UpstreamError
from tests.transformer.stages import prepare, reply_to, v2
from transformer.drawing import read_drawing
from transformer.model import EmojiModel


@pytest.mark.parametrize(
    "answer",
    [
        {"outputs": ["image", "seed"]},
        {"images": np.zeros((1, 8, 8), np.uint8)},
        {"images": np.zeros((2, 8, 8, 3), np.uint8)},
        {"images": np.zeros((1, 0, 8, 3), np.uint8)},
        {"images": np.zeros((1, 8, 8, 4), np.uint8)},
        {"seeds": [1, 2]},
        {"loras": []},
    ],
)
def test_an_answer_against_the_contract_is_a_bad_gateway(model: EmojiModel, answer: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError, match="the predictor's answer"):
        reply_to(model, prepare(model, v2(["a"])), **answer)


@pytest.mark.parametrize("label", [b"", b"[]", b"{}", b'{"name": 1}', b"\xff"])
def test_a_label_that_is_none_is_the_predictors_fault(model: EmojiModel, label: bytes) -> None:
    job = prepare(model, v2(["a"], {"approximation": "block-cache:2"}))
    response = infer_response(
        model_name="x",
        model_version="2",
        response_id="x",
        images=np.zeros((1, 8, 8, 3), np.uint8),
        seeds=[1],
        loras=["notoemoji@2"],
        outputs=["image", "seed", "lora", "approximation"],
    )
    response.outputs[-1].data = np.array([label], dtype=np.object_)
    with pytest.raises(UpstreamError):
        read_drawing(job, InferResponse.from_grpc(response.to_grpc()))
