"""Pictures that are nearly the exact ones: asked for, drawn, labelled and refused, by every API."""

import base64
import json
from typing import Any

import grpc
import numpy as np
import pytest

from tests.predictor.server.asking import MEASURED, body, drawn, message, outputs
from tests.predictor.serving import Predictor

INFER = "/v2/models/emoji/infer"
CACHED = {"name": "block-cache:2", "quality": MEASURED}


def labels(outputs: dict[str, Any]) -> list[Any]:
    return [json.loads(text) for text in outputs["approximation"]]


def near(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(abs(one.astype(int) - other.astype(int)).max() <= 1)


def test_exact_pictures_are_not_labelled_unless_the_label_is_asked_for(server: Predictor) -> None:
    for request in (body("a cat"), body("a cat", approximation="none")):
        assert list(drawn(server.http.post(INFER, json=request))) == ["image", "seed", "lora"]
    asked = body("a cat") | {"outputs": [{"name": "approximation"}]}
    assert labels(drawn(server.http.post(INFER, json=asked))) == [{"name": "none"}]


def test_every_way_of_asking_gives_the_label_with_the_picture(server: Predictor) -> None:
    exact = drawn(server.http.post(INFER, json=body("a cat", seed=7, steps=6)))
    request = body("a cat", seed=7, steps=6, approximation="block-cache:2")
    wanted = drawn(server.http.post(INFER, json=request))
    assert list(wanted) == ["image", "seed", "lora", "approximation"]
    assert labels(wanted) == [CACHED]
    assert not near(wanted["image"], exact["image"])

    v1 = {"instances": [{"prompt": "a cat", "seed": 7, "num_inference_steps": 6}, "a dog"]}
    v1["parameters"] = {"approximation": "block-cache:2"}
    first, second = server.http.post("/v1/models/emoji:predict", json=v1).json()["predictions"]
    assert first["approximation"] == second["approximation"] == CACHED
    pixels = np.frombuffer(base64.b64decode(first["image"]["b64"]), np.uint8)
    assert near(pixels.reshape(wanted["image"][0].shape), wanted["image"][0])

    raw = outputs(server.grpc.ModelInfer(message("a cat", seed=7, steps=6, approximation="block-cache:2")))
    assert labels(raw) == [CACHED]
    assert near(raw["image"], wanted["image"])


def test_each_picture_of_a_request_is_approximated_by_itself(server: Predictor) -> None:
    names = ["none", "block-cache:3", "block-cache:2"]
    request = body("a cat", "a cat", "a cat", seed=7, steps=6)
    request["inputs"].append({"name": "approximation", "shape": [3], "datatype": "BYTES", "data": names})
    mixed = drawn(server.http.post(INFER, json=request))
    assert labels(mixed) == [
        {"name": "none"},
        {"name": "block-cache:3", "quality": "not measured"},
        CACHED,
    ]
    for name, picture in zip(names, mixed["image"], strict=True):
        alone = drawn(server.http.post(INFER, json=body("a cat", seed=7, steps=6, approximation=name)))
        assert near(alone["image"][0], picture)
    # what the outer layers alone cost is learned apart
    metrics = server.http.get("/metrics").text
    assert 'emoji_cost_call_seconds{kind="outer",size="16x16"}' in metrics
    costs = server.http.get("/v2/models/emoji/stats").json()["engine"]["costs"]
    assert "outer" in {cost["kind"] for cost in costs}


def test_few_steps_are_those_of_the_models_folder(server: Predictor) -> None:
    request = body("a cat", seed=7, approximation="few-steps")
    del request["parameters"]["num_inference_steps"]
    reply = drawn(server.http.post(INFER, json=request))
    steps = {"num_inference_steps": 3, "solver": "euler"}
    assert labels(reply) == [{"name": "few-steps", **steps, "quality": "not measured"}]
    plain = drawn(server.http.post(INFER, json=body("a cat", seed=7, steps=3, solver="euler")))
    assert near(reply["image"], plain["image"])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"approximation": "tiny"}, "must be one of none, block-cache:2, block-cache:3, few-steps"),
        ({"approximation": "few-steps"}, "few-steps chooses num_inference_steps and solver"),
    ],
)
def test_what_is_refused_is_refused_by_every_api(server: Predictor, fields: Any, reason: str) -> None:
    reply = server.http.post(INFER, json=body("a cat", **fields))
    assert reply.status_code == 400
    assert reply.json()["error"].startswith(f"approximation: {reason}")
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(message("a cat", **fields))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"approximation: {reason}")


def test_the_documentation_lists_them(server: Predictor) -> None:
    infer = server.http.get("/openapi.json").json()["paths"]["/v2/models/{model_name}/infer"]["post"]
    assert "none, block-cache:2, block-cache:3, few-steps |" in infer["description"]
