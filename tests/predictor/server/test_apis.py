"""Asking over v2, v1 and gRPC: what is there, and what is drawn."""

import asyncio
import base64
import json

import numpy as np
import pytest
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from predictor.contract import PictureRequest, infer_request
from tests.predictor.server.asking import body, drawn, message, outputs
from tests.predictor.serving import Predictor

MODELS = ["emoji", "notoemoji", "openmoji", "notoemoji@1", "notoemoji@2", "openmoji@1", "notoemoji@stable"]


def test_it_is_live_and_ready_on_every_api(server: Predictor) -> None:
    assert server.http.get("/").json() == {"status": "alive"}
    assert server.http.get("/v2/health/live").json() == {"live": True}
    assert server.http.get("/v2/health/ready").json() == {"ready": True}
    assert server.grpc.ServerLive(pb.ServerLiveRequest()).live
    assert server.grpc.ServerReady(pb.ServerReadyRequest()).ready
    for name in MODELS:
        assert server.http.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}
        assert server.http.get(f"/v1/models/{name}").json() == {"name": name, "ready": True}
        assert server.grpc.ModelReady(pb.ModelReadyRequest(name=name)).ready
    assert server.http.get("/v2/models/notoemoji/versions/1/ready").status_code == 200
    assert server.grpc.ModelReady(pb.ModelReadyRequest(name="notoemoji", version="1")).ready


def test_it_lists_its_models(server: Predictor) -> None:
    assert server.http.get("/v2/models").json() == {"models": MODELS}
    assert server.http.get("/v1/models").json() == {"models": MODELS}
    index = server.http.post("/v2/repository/index").json()
    assert [(entry["name"], entry["state"]) for entry in index] == [(name, "READY") for name in MODELS]


@pytest.mark.parametrize(
    ("path", "versions"),
    [
        ("emoji", ["1", "2"]),
        ("notoemoji/versions/2", ["1", "2"]),
        ("openmoji", ["1"]),
        ("emoji/versions/1", ["1", "2"]),
    ],
)
def test_metadata_names_every_tensor_and_version(server: Predictor, path: str, versions: list[str]) -> None:
    metadata = server.http.get(f"/v2/models/{path}").json()
    assert metadata["versions"] == versions
    assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in metadata["inputs"]] == [
        ("prompt", "BYTES", [-1]),
        ("negative_prompt", "BYTES", [-1]),
        ("seed", "INT64", [-1]),
        ("num_inference_steps", "INT32", [-1]),
        ("guidance_scale", "FP32", [-1]),
        ("lora_scale", "FP32", [-1]),
        ("height", "INT32", [-1]),
        ("width", "INT32", [-1]),
        ("lora", "BYTES", [-1]),
        ("solver", "BYTES", [-1]),
        ("approximation", "BYTES", [-1]),
        ("sticky_key", "BYTES", [-1]),
        ("timeout", "FP32", [-1]),
        ("priority", "INT32", [-1]),
    ]
    assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in metadata["outputs"]] == [
        ("image", "UINT8", [-1, -1, -1, 3]),
        ("seed", "INT64", [-1]),
        ("lora", "BYTES", [-1]),
        ("approximation", "BYTES", [-1]),
    ]
    name, _, version = path.partition("/versions/")
    over_grpc = server.grpc.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version))
    assert list(over_grpc.versions) == versions
    assert [tensor.name for tensor in over_grpc.inputs] == [tensor["name"] for tensor in metadata["inputs"]]


def test_the_api_is_documented(server: Predictor) -> None:
    assert "swagger" in server.http.get("/docs").text
    schema = server.http.get("/openapi.json").json()
    infer = schema["paths"]["/v2/models/{model_name}/infer"]["post"]
    content = infer["requestBody"]["content"]["application/json"]
    assert content["schema"]["$ref"].rpartition("/")[2] in schema["components"]["schemas"]
    assert "| `lora_scale` | FP32 |" in infer["description"]
    assert set(infer["responses"]) == {"200", "400", "404", "413", "429", "500", "503", "504"}
    reply = server.http.post("/v2/models/emoji/infer", json=content["example"])
    assert reply.status_code == 200, reply.text
    example = schema["paths"]["/v1/models/{model_name}:predict"]["post"]["requestBody"]["content"]
    reply = server.http.post("/v1/models/emoji:predict", json=example["application/json"]["example"])
    assert reply.status_code == 200, reply.text


# Drawing


def test_every_way_of_asking_gives_the_same_picture(server: Predictor) -> None:
    wanted = drawn(server.http.post("/v2/models/emoji/infer", json=body("a cat", seed=7)))
    assert wanted["image"].shape == (1, 16, 16, 3)
    assert wanted["image"].std() > 0
    assert (wanted["seed"], wanted["lora"]) == ([7], ["notoemoji@1"])

    v1 = {"instances": [{"prompt": "a cat", "seed": 7, "num_inference_steps": 2}]}
    (prediction,) = server.http.post("/v1/models/emoji:predict", json=v1).json()["predictions"]
    pixels = np.frombuffer(base64.b64decode(prediction["image"]["b64"]), np.uint8)
    np.testing.assert_array_equal(pixels.reshape(prediction["image"]["shape"]), wanted["image"][0])
    assert (prediction["seed"], prediction["lora"]) == (7, "notoemoji@1")

    raw = outputs(server.grpc.ModelInfer(message("a cat", seed=7)))
    np.testing.assert_array_equal(raw["image"], wanted["image"])
    assert raw["seed"].tolist() == [7]

    contents = pb.ModelInferRequest(
        model_name="emoji",
        inputs=[
            {"name": "prompt", "datatype": "BYTES", "shape": [1], "contents": {"bytes_contents": [b"a cat"]}}
        ],
        parameters={
            "seed": pb.InferParameter(int64_param=7),
            "num_inference_steps": pb.InferParameter(string_param="2"),
        },
    )
    reply = server.grpc.ModelInfer(contents)
    assert len(reply.raw_output_contents) == 3
    np.testing.assert_array_equal(outputs(reply)["image"], wanted["image"])


def test_the_sdk_clients_work(server: Predictor) -> None:
    wanted = drawn(server.http.post("/v2/models/notoemoji@2/infer", json=body("a cat", seed=7)))

    async def ask() -> list[InferResponse]:
        prompt = InferInput("prompt", [1], "BYTES")
        prompt.set_data_from_numpy(np.array([b"a cat"], dtype=np.object_))
        plain = {"seed": 7, "num_inference_steps": 2}
        async with InferenceGRPCClient(server.target) as client:
            assert await client.is_server_live()
            assert await client.is_server_ready()
            assert await client.is_model_ready("notoemoji@2")
            replies = [await client.infer(InferRequest("notoemoji@2", [prompt], parameters=plain))]
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            assert await client.is_server_live(server.url)
            assert await client.is_server_ready(server.url)
            assert await client.is_model_ready(server.url, "notoemoji@2")
            for parameters in (plain, {**plain, "binary_data_output": True}):
                request = InferRequest("notoemoji@2", [prompt], parameters=parameters)
                replies.append(await client.infer(server.url, request, model_name="notoemoji@2"))
        async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
            assert await client.is_model_ready(server.url, "notoemoji@2")
            reply = await client.infer(server.url, {"instances": ["a cat"]}, model_name="notoemoji@2")
            assert reply["predictions"][0]["lora"] == "notoemoji@2"
        return replies

    for reply in asyncio.run(ask()):
        image, seed, lora = reply.outputs
        np.testing.assert_array_equal(image.as_numpy(), wanted["image"])
        assert seed.as_numpy().tolist() == [7]
        assert [value.decode() if isinstance(value, bytes) else value for value in lora.as_numpy()] == [
            "notoemoji@2"
        ]


@pytest.mark.parametrize(
    ("path", "lora", "version"),
    [
        ("emoji", "notoemoji@1", "1"),
        ("emoji/versions/2", "notoemoji@2", "2"),
        ("notoemoji", "notoemoji@1", "1"),
        ("notoemoji@stable", "notoemoji@1", "1"),
        ("notoemoji@2", "notoemoji@2", "2"),
        ("notoemoji%402", "notoemoji@2", "2"),
        ("notoemoji/versions/2", "notoemoji@2", "2"),
        ("openmoji", "openmoji@1", "1"),
    ],
)
def test_a_name_or_version_chooses_the_lora(server: Predictor, path: str, lora: str, version: str) -> None:
    reply = server.http.post(f"/v2/models/{path}/infer", json=body("a cat", seed=7))
    found = drawn(reply)
    assert found["lora"] == [lora]
    assert reply.json()["model_version"] == version
    explicit = drawn(server.http.post("/v2/models/emoji/infer", json=body("a cat", seed=7, lora=lora)))
    np.testing.assert_array_equal(found["image"], explicit["image"])

    name, _, number = path.replace("%40", "@").partition("/versions/")
    raw = outputs(server.grpc.ModelInfer(message("a cat", seed=7, model=name, version=number)))
    assert raw["lora"].tolist() == [lora.encode()]
    np.testing.assert_array_equal(raw["image"], found["image"])


def test_rows_have_their_own_lora_scale_and_guidance(server: Predictor) -> None:
    rows = [
        {"prompt": "a", "seed": 1, "lora": "none"},
        {"prompt": "a", "seed": 1, "lora": "openmoji"},
        {"prompt": "a", "seed": 1, "lora": "openmoji", "lora_scale": 0},
        {"prompt": "a", "seed": 1, "lora": "none", "guidance_scale": 1, "num_inference_steps": 3},
    ]
    request = {"instances": rows, "parameters": {"num_inference_steps": 2}}
    replies = server.http.post("/v1/models/emoji:predict", json=request).json()["predictions"]
    assert [reply["lora"] for reply in replies] == ["none", "openmoji@1", "openmoji@1", "none"]
    plain, look, unscaled, unguided = (
        np.frombuffer(base64.b64decode(reply["image"]["b64"]), np.uint8).astype(int) for reply in replies
    )
    # alone or in a mixed batch: float rounding may move a pixel by one
    assert np.abs(plain - unscaled).max() <= 1
    assert np.abs(plain - look).max() > 1
    assert np.abs(plain - unguided).max() > 1


def test_a_seed_that_is_not_given_is_reported(server: Predictor) -> None:
    first = drawn(server.http.post("/v2/models/emoji/infer", json=body("a", "a")))
    assert first["seed"][0] != first["seed"][1]
    request = body("a")
    request["inputs"].append({"name": "seed", "shape": [1], "datatype": "INT64", "data": first["seed"][1:]})
    second = drawn(server.http.post("/v2/models/emoji/infer", json=request))
    assert np.abs(second["image"][0].astype(int) - first["image"][1]).max() <= 1


def test_binary_tensors_go_both_ways_over_rest(server: Predictor) -> None:
    request = infer_request("emoji", [PictureRequest("a cat", seed=7, num_inference_steps=2)])
    request.parameters = {"binary_data_output": True}
    payload, json_length = request.to_rest()
    assert isinstance(payload, bytes)
    headers = {"Inference-Header-Content-Length": str(json_length)}
    reply = server.http.post("/v2/models/emoji/infer", content=payload, headers=headers)
    assert reply.headers["content-type"] == "application/octet-stream"
    split = int(reply.headers["inference-header-content-length"])
    head = json.loads(reply.content[:split])
    sizes = [output["parameters"]["binary_data_size"] for output in head["outputs"]]
    assert sizes == [16 * 16 * 3, 8, 4 + len("notoemoji@1")]
    assert len(reply.content) == split + sum(sizes)
    wanted = drawn(server.http.post("/v2/models/emoji/infer", json=body("a cat", seed=7)))
    assert reply.content[split:][: sizes[0]] == wanted["image"].tobytes()


def test_only_requested_outputs_come_back(server: Predictor) -> None:
    request = body("a", seed=1) | {"outputs": [{"name": "lora"}, {"name": "seed"}]}
    reply = server.http.post("/v2/models/emoji/infer", json=request)
    assert list(drawn(reply)) == ["lora", "seed"]
    wanted = message("a")
    wanted.outputs.add(name="seed")
    assert [output.name for output in server.grpc.ModelInfer(wanted).outputs] == ["seed"]


def test_ids_go_through(server: Predictor) -> None:
    reply = server.http.post(
        "/v2/models/emoji/infer", json=body("a") | {"id": "mine"}, headers={"x-request-id": "trace-1"}
    )
    assert (reply.json()["id"], reply.headers["x-request-id"]) == ("mine", "trace-1")
    odd = server.http.get("/v2", headers={"x-request-id": "a b"}).headers["x-request-id"]
    assert odd != "a b"
    response, call = server.grpc.ModelInfer.with_call(message("a"), metadata=(("x-request-id", "trace-2"),))
    assert dict(call.trailing_metadata())["x-request-id"] == "trace-2"
    assert response.id == "trace-2"
