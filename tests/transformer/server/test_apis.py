"""The APIs: OIP v2 over REST and gRPC, v1, pictures by their media type, and their documentation."""

import asyncio
import base64
import io
import json

import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from PIL import Image

from tests.transformer.server.asking import body, get, outputs, pixels, post
from tests.transformer.serving import Process
from tests.transformer.small_predictor import paint


def test_v2_rest(either: Process) -> None:
    reply = post(
        either, "/v2/models/openmoji/infer", body("빨간 사과", "a cat", id="7", parameters={"seed": 5})
    )
    values = outputs(reply)
    assert values["prompt"] == ["red apple", "a cat"]
    assert values["translation_backend"] == ["glossary", "none"]
    assert (values["seed"], values["lora"]) == ([5, 5], ["openmoji@1"] * 2)
    for prompt, text in zip(values["prompt"], values["image"], strict=True):
        np.testing.assert_array_equal(pixels(base64.b64decode(text)), paint(prompt, 5, "openmoji@1"))
    assert (reply.json()["id"], reply.json()["model_name"]) == ("7", "openmoji")


def test_binary_outputs_over_rest(transformer: Process) -> None:
    request = body("a cat", parameters={"binary_data_output": True, "seed": 1})
    reply = post(transformer, "/v2/models/emoji/infer", request)
    length = int(reply.headers["inference-header-content-length"])
    image = next(o for o in json.loads(reply.content[:length])["outputs"] if o["name"] == "image")
    tensor = reply.content[length : length + image["parameters"]["binary_data_size"]]
    assert int.from_bytes(tensor[:4], "little") == len(tensor) - 4
    np.testing.assert_array_equal(pixels(tensor[4:]), paint("a cat", 1, "notoemoji@1"))


@pytest.mark.parametrize(("kind", "name"), [("png", "PNG"), ("webp", "WEBP"), ("jpeg", "JPEG")])
def test_a_picture_by_its_media_type(transformer: Process, kind: str, name: str) -> None:
    reply = post(
        transformer,
        "/v2/models/emoji/infer",
        body("하트 눈을 한 고양이", parameters={"size": 40}),
        headers={"accept": f"image/{kind}"},
    )
    assert reply.headers["content-type"] == f"image/{kind}"
    picture = Image.open(io.BytesIO(reply.content))
    assert (picture.format, picture.size) == (name, (40, 40))
    assert reply.headers["emoji-prompt"] == "cat with heart eyes"
    assert reply.headers["emoji-lora"] == "notoemoji@1"


def test_several_pictures_are_no_picture(transformer: Process) -> None:
    accept = {"accept": "image/png"}
    reply = post(transformer, "/v2/models/emoji/infer", body("a", "b"), headers=accept)
    assert (reply.status_code, "one picture" in reply.json()["error"]) == (406, True)


def test_text_in_the_png(transformer: Process) -> None:
    request = body("웃는 강아지", parameters={"metadata": True, "seed": 3})
    reply = post(transformer, "/v2/models/emoji/infer", request, headers={"accept": "image/png"})
    picture = Image.open(io.BytesIO(reply.content))
    picture.load()
    assert picture.info == {
        "prompt": "smiling dog",
        "model": "notoemoji@1",
        "seed": "3",
        "source_prompt": "웃는 강아지",
    }


def test_v1(either: Process) -> None:
    reply = post(
        either, "/v1/models/emoji:predict", {"instances": ["빨간 사과", {"prompt": "a cat", "seed": 4}]}
    )
    first, second = reply.json()["predictions"]
    assert (first["prompt"], first["translation"]["backend"]) == ("red apple", "glossary")
    np.testing.assert_array_equal(
        pixels(base64.b64decode(second["image"]["b64"])), paint("a cat", 4, "notoemoji@1")
    )
    assert get(either, "/v1/models/emoji").json() == {"name": "emoji", "ready": True}


def test_kserves_own_rest_client(transformer: Process) -> None:
    async def run() -> None:
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        prompt = InferInput("prompt", [1], "BYTES", ["빨간 사과"])
        response = await client.infer(transformer.url, InferRequest("emoji", [prompt]), "emoji")
        assert response.get_output_by_name("prompt").as_numpy().tolist() == ["red apple"]
        await client.close()

    asyncio.run(run())


@pytest.mark.parametrize("raw", [True, False])
def test_grpc_has_the_files_bytes(either: Process, raw: bool) -> None:
    async def run() -> None:
        client = InferenceGRPCClient(f"127.0.0.1:{either.grpc_port}")
        prompt, seed = (
            InferInput("prompt", [2], "BYTES", ["빨간 사과", "a cat"]),
            InferInput("seed", [2], "INT64", [6, 7]),
        )
        if raw:
            prompt.set_data_from_numpy(np.array(["빨간 사과".encode(), b"a cat"], np.object_))
            seed.set_data_from_numpy(np.array([6, 7], np.int64))
        request = InferRequest("openmoji", [prompt, seed], "9", parameters={"guidance_scale": "7.5"})
        response = await client.infer(request)
        values = {output.name: output.as_numpy().tolist() for output in response.outputs}
        assert (values["prompt"], values["lora"]) == ([b"red apple", b"a cat"], [b"openmoji@1"] * 2)
        for image, english, number in zip(values["image"], ("red apple", "a cat"), (6, 7), strict=True):
            np.testing.assert_array_equal(pixels(image), paint(english, number, "openmoji@1"))
        assert await client.is_model_ready("openmoji")
        assert await client.is_server_ready()
        await client.close()

    asyncio.run(run())


def test_swagger_describes_all_routes(transformer: Process) -> None:
    assert "swagger" in get(transformer, "/docs").text.lower()
    paths = get(transformer, "/openapi.json").json()["paths"]
    assert paths.keys() >= {"/v2/models/{model_name}/infer", "/v1/models/{model_name}:predict", "/kor_submit"}
    example = paths["/v2/models/{model_name}/infer"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    assert len(outputs(post(transformer, "/v2/models/emoji/infer", example))["image"]) == 2
    old = paths["/kor_submit"]["post"]["requestBody"]["content"]["application/json"]["schema"]["example"]
    assert post(transformer, "/kor_submit", old).status_code == 200
    v1 = paths["/v1/models/{model_name}:predict"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    assert post(transformer, "/v1/models/emoji:predict", v1).status_code == 200
