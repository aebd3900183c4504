"""The old calls, as their clients make them."""

import base64
import io

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.transformer.serving import Process

OLD = {
    "model": "openmoji",
    "prompt": "빨간 사과",
    "guidance_scale": 15,
    "size": 64,
    "num_inference_steps": 30,
    "num_images_per_prompt": 2,
}


def submit(transformer: Process, route: str, body: object) -> httpx.Response:
    return httpx.post(f"{transformer.url}/{route}", json=body, trust_env=False, timeout=30)


def decode(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def last_call(small_predictor: Process) -> dict[str, object]:
    call: dict[str, object] = httpx.get(f"{small_predictor.url}/calls", trust_env=False).json()[-1]
    return call


def test_images_and_removes(transformer: Process, small_predictor: Process) -> None:
    reply = submit(transformer, "kor_submit", OLD).json()
    assert reply.keys() == {"images", "removes"}
    assert (len(reply["images"]), len(reply["removes"])) == (2, 2)
    for image, removed in zip(reply["images"], reply["removes"], strict=True):
        opaque, transparent = decode(image), decode(removed)
        assert (opaque.format, opaque.mode, opaque.size) == ("PNG", "RGB", (64, 64))
        assert (transparent.format, transparent.mode, transparent.size) == ("PNG", "RGBA", (64, 64))
        alpha = np.asarray(transparent)[..., 3]
        assert (alpha[0, 0], alpha[32, 32]) == (0, 255)

    call = last_call(small_predictor)
    assert call["model"] == "openmoji"
    first, second = call["rows"]
    assert first["prompt"] == second["prompt"] == "red apple"
    assert (first["guidance_scale"], first["num_inference_steps"]) == (15, 30)
    assert first["seed"] != second["seed"]
    assert not first.keys() & {"height", "width"}


def test_the_english_route_translates_nothing(transformer: Process, small_predictor: Process) -> None:
    assert submit(transformer, "eng_submit", OLD | {"prompt": "사과 apple"}).status_code == 200
    assert last_call(small_predictor)["rows"][0]["prompt"] == "사과 apple"


def test_a_prompt_alone_is_enough(transformer: Process, small_predictor: Process) -> None:
    reply = submit(transformer, "kor_submit", {"prompt": "a red apple", "user": "ignored"}).json()
    assert [decode(image).size for image in reply["images"]] == [(512, 512)]
    assert last_call(small_predictor)["rows"][0]["prompt"] == "a red apple"


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"prompt": None}, 400, "prompt: "),
        ({"num_images_per_prompt": 0}, 400, "num_images_per_prompt: must be from 1 to 8, got 0"),
        ({"num_images_per_prompt": 9}, 400, "num_images_per_prompt: must be from 1 to 8, got 9"),
        ({"num_inference_steps": 1000}, 400, "num_inference_steps: must be from 1 to 100, got 1000"),
        ({"size": 5000}, 400, "size: must be from 1 to 2048, got 5000"),
        ({"guidance_scale": "much"}, 400, "guidance_scale: "),
        ({"model": "nobody"}, 404, "there is no model 'nobody'"),
        ({"model": "../ready"}, 404, "there is no model '../ready'"),
    ],
)
def test_bad_fields(transformer: Process, change: dict[str, object], status: int, message: str) -> None:
    reply = submit(transformer, "eng_submit", OLD | {"num_images_per_prompt": 1} | change)
    assert reply.status_code == status
    assert reply.json()["error"].startswith(message)


def test_a_body_that_is_no_object(transformer: Process) -> None:
    assert submit(transformer, "kor_submit", []).status_code == 400
    not_json = httpx.post(f"{transformer.url}/kor_submit", content=b"{", trust_env=False)
    assert (not_json.status_code, not_json.json()["error"][:13]) == (400, "body: is not ")
