"""The predictor as its users see it: a real process, real sockets, a tiny model of the true architecture."""

import asyncio
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import torch
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
from predictor.server import UnusableDevice, build_server
from predictor.settings import read_settings
from tests.predictor.serving import ROOT, Predictor, running, write_store
from weights.store import Store

LONG = 300
"""Steps that take longer than any test waits for."""

MODELS = ["emoji", "notoemoji", "openmoji", "notoemoji@1", "notoemoji@2", "openmoji@1", "notoemoji@stable"]


@pytest.fixture(scope="module")
def model_dir(tiny_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_folders["emoji"], root / "base")
    generation = {"num_inference_steps": 2, "guidance_scale": 2.0, "solver": "ddim"}
    (root / "base" / "generation.json").write_text(json.dumps(generation), encoding="utf-8")
    write_store(root / "loras", root / "base")
    return root


@pytest.fixture(scope="module")
def server(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Predictor]:
    log = tmp_path_factory.mktemp("log") / "predictor.log"
    flags = ["--max_batch_size", "2", "--max_queue_rows", "4", "--max_rows", "4", "--max_steps", str(LONG)]
    flags += ["--max_body_bytes", "20000", "--log_format", "json", "--request_timeout", "86400"]
    with running(log, "--model_dir", str(model_dir), *flags) as predictor:
        yield predictor


def body(*prompts: str, steps: int = 2, **parameters: Any) -> dict[str, Any]:
    return {
        "inputs": [{"name": "prompt", "shape": [len(prompts)], "datatype": "BYTES", "data": list(prompts)}],
        "parameters": {"num_inference_steps": steps, **parameters},
    }


def drawn(reply: httpx.Response) -> dict[str, Any]:
    """The outputs of a v2 JSON reply as arrays and lists."""
    assert reply.status_code == 200, reply.text
    outputs = {output["name"]: output for output in reply.json()["outputs"]}
    found = {name: output["data"] for name, output in outputs.items()}
    if "image" in outputs:
        found["image"] = np.array(found["image"], np.uint8).reshape(outputs["image"]["shape"])
    return found


def message(*prompts: str, model: str = "emoji", version: str = "", steps: int = 2, **fields: Any) -> Any:
    pictures = [PictureRequest(prompt, num_inference_steps=steps, **fields) for prompt in prompts]
    request = infer_request(model, pictures)
    request.id, request.model_version = "", version
    return request.to_grpc()


def outputs(reply: Any) -> dict[str, np.ndarray]:
    return {output.name: output.as_numpy() for output in InferResponse.from_grpc(reply).outputs}


# What is there


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
        ("sticky_key", "BYTES", [-1]),
        ("timeout", "FP32", [-1]),
        ("priority", "INT32", [-1]),
    ]
    assert [(tensor["name"], tensor["datatype"], tensor["shape"]) for tensor in metadata["outputs"]] == [
        ("image", "UINT8", [-1, -1, -1, 3]),
        ("seed", "INT64", [-1]),
        ("lora", "BYTES", [-1]),
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


# Weighted aliases


def test_shares_change_live_under_load_and_a_key_moves_once(server: Predictor, model_dir: Path) -> None:
    store = Store(model_dir / "loras")
    stop = threading.Event()
    seen: dict[str, list[str]] = {}

    def route() -> object:
        return server.http.get("/v2/models/emoji").json().get("parameters", {}).get("route", {})

    def share_out(percent: int) -> None:
        shares = {"notoemoji@1": 100 - percent, "openmoji@1": percent}
        store.set_route("emoji", shares)
        server.wait_until(lambda: route() == shares)

    def ask_rest(key: str) -> None:
        with httpx.Client(base_url=server.url, timeout=120) as client:
            while not stop.is_set():
                reply = client.post(
                    "/v2/models/emoji/infer", json=body("a", steps=1), headers={"X-Sticky-Key": key}
                )
                seen[key] += drawn(reply)["lora"]

    def ask_grpc(key: str) -> None:
        while not stop.is_set():
            reply = outputs(server.grpc.ModelInfer(message("a", steps=1, sticky_key=key)))
            seen[key] += [lora.decode() for lora in reply["lora"]]

    def pictures() -> int:
        text = server.http.get("/metrics").text
        found = re.findall(r'^emoji_pictures_total\{lora="(?:notoemoji|openmoji)@1"\} (\S+)$', text, re.M)
        return int(sum(map(float, found)))

    before = pictures()
    share_out(0)
    with ThreadPoolExecutor(4) as pool:
        asking = []
        for number in range(4):
            seen[f"user {number}"] = []
            asking.append(pool.submit((ask_rest, ask_grpc)[number % 2], f"user {number}"))
        try:
            for percent in (30, 60, 100):
                lengths = {key: len(loras) for key, loras in seen.items()}
                server.wait_until(lambda: all(len(seen[key]) >= lengths[key] + 2 for key in seen))  # noqa: B023
                share_out(percent)
            lengths = {key: len(loras) for key, loras in seen.items()}
            server.wait_until(lambda: all(len(seen[key]) >= lengths[key] + 2 for key in seen))
        finally:
            stop.set()
    try:
        for task in asking:
            task.result()  # none of its requests failed
        for loras in seen.values():
            assert loras == sorted(loras), "a key that has seen the canary stays with it"
            assert (loras[0], loras[-1]) == ("notoemoji@1", "openmoji@1")
        assert pictures() - before == sum(map(len, seen.values()))
    finally:
        store.remove_route("emoji")
        server.wait_until(lambda: route() == {})
    assert drawn(server.http.post("/v2/models/emoji/infer", json=body("a")))["lora"] == ["notoemoji@1"]


def test_a_moved_alias_counts_without_a_restart(server: Predictor, model_dir: Path) -> None:
    store = Store(model_dir / "loras")

    def version() -> object:
        return server.http.post("/v2/models/notoemoji/infer", json=body("a", steps=1)).json()["model_version"]

    store.set_alias("stable", store.resolve("notoemoji@2"))
    server.wait_until(lambda: version() == "2")
    store.set_alias("stable", store.resolve("notoemoji@1"))
    server.wait_until(lambda: version() == "1")


# Refusing


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "error"),
    [
        ("GET", "/v2/models/nope", b"", 404, "there is no model 'nope'"),
        ("GET", "/v2/models/emoji/versions/9", b"", 404, "model 'emoji' has no version '9'"),
        ("GET", "/v1/models/nope", b"", 404, "there is no model 'nope'"),
        ("GET", "/nope", b"", 404, "Not Found"),
        ("GET", "/v2/models/emoji/infer", b"", 405, "Method Not Allowed"),
        ("POST", "/v2/models/nope/infer", b'{"inputs":[]}', 404, "there is no model 'nope'"),
        ("POST", "/v2/models/notoemoji@9/infer", b'{"inputs":[]}', 404, "there is no model 'notoemoji@9'"),
        ("POST", "/v2/models/notoemoji/versions/9/infer", b'{"inputs":[]}', 404, "has no version '9'"),
        ("POST", "/v1/models/nope:predict", b'{"instances":["a"]}', 404, "there is no model 'nope'"),
        ("POST", "/v1/models/emoji:explain", b'{"instances":["a"]}', 405, "Method Not Allowed"),
        ("POST", "/v2/repository/models/emoji/unload", b"", 404, "Not Found"),
        ("POST", "/v2/models/emoji/infer", b"{", 400, "body: is not JSON"),
        ("POST", "/v2/models/emoji/infer", b"\xff\xfe", 400, "body: is not JSON"),
        ("POST", "/v2/models/emoji/infer", b'{"inputs":[]}', 400, "prompt: a BYTES tensor"),
        ("POST", "/v1/models/emoji:predict", b"{", 400, "body: is not JSON"),
        ("POST", "/v1/models/emoji:predict", b"{}", 400, "instances: "),
        ("POST", "/v1/models/emoji:predict", b'{"instances":[{"prompt":"a","seed":"x"}]}', 400, "seed: "),
        ("POST", "/v1/models/emoji:predict", b'{"instances":["%s"]}' % (b"a" * 20_000), 413, "at most 20000"),
    ],
)
def test_a_refusal_says_why(
    server: Predictor, method: str, path: str, content: bytes, status: int, error: str
) -> None:
    reply = server.http.request(method, path, content=content)
    assert reply.status_code == status
    assert set(reply.json()) == {"error"}
    assert error in reply.json()["error"]


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"seed": -1}, "seed: must be from 0 to 9223372036854775807"),
        ({"steps": LONG + 1}, f"num_inference_steps: must be from 1 to {LONG}"),
        ({"guidance_scale": 31.0}, "guidance_scale: must be from 0 to 30"),
        ({"lora_scale": 3.0}, "lora_scale: must be from 0 to 2"),
        ({"height": 64}, "height: must be from 4 to 32"),
        ({"width": 18}, "width: must be a multiple of 4"),
        ({"solver": "magic"}, "solver: must be one of ddim"),
        ({"timeout": 0.0}, "timeout: must be more than 0 and at most 3600 seconds"),
        ({"priority": 4}, "priority: must be from -3 to 3"),
    ],
)
def test_a_range_is_named_by_http_and_grpc(server: Predictor, fields: dict[str, Any], error: str) -> None:
    reply = server.http.post("/v2/models/emoji/infer", json=body("a", **fields))
    assert (reply.status_code, error in reply.json()["error"]) == (400, True), reply.text
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(message("a", **fields))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error in caught.value.details()


def test_a_prompt_beyond_the_models_context_is_refused(server: Predictor) -> None:
    reply = server.http.post("/v2/models/emoji/infer", json=body("a much too long prompt"))
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("prompt: must have at most 10 tokens for this model, has ")


def test_an_unknown_lora_is_not_found(server: Predictor) -> None:
    reply = server.http.post("/v2/models/emoji/infer", json=body("a", lora="nope@1"))
    assert (reply.status_code, "lora: there is no 'nope@1'" in reply.json()["error"]) == (404, True)


def test_a_body_without_announced_length_is_counted(server: Predictor) -> None:
    reply = server.http.post("/v1/models/emoji:predict", content=(b"x" * 1000 for _ in range(100)))
    assert reply.status_code == 413


@pytest.mark.parametrize(
    ("request_", "code", "error"),
    [
        (message("a", model="nope"), grpc.StatusCode.NOT_FOUND, "there is no model 'nope'"),
        (message("a", version="9"), grpc.StatusCode.NOT_FOUND, "has no version '9'"),
        (message("a", lora="nope"), grpc.StatusCode.NOT_FOUND, "lora: there is no 'nope'"),
        (message("a" * 20_000), grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than max"),
        (message(*"abcde"), grpc.StatusCode.INVALID_ARGUMENT, "prompt: must hold from 1 to 4 prompts"),
        (
            pb.ModelInferRequest(model_name="emoji", inputs=[{"name": "x", "datatype": "?", "shape": [1]}]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "invalid content type",
        ),
        (
            pb.ModelInferRequest(model_name="emoji", raw_input_contents=[b"a"]),
            grpc.StatusCode.INVALID_ARGUMENT,
            "raw input contents",
        ),
    ],
)
def test_a_grpc_refusal_has_its_status(server: Predictor, request_: Any, code: Any, error: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(request_)
    assert caught.value.code() is code
    assert error in caught.value.details()


def test_nobody_can_unload_a_model(server: Predictor) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="emoji"))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert server.grpc.ModelReady(pb.ModelReadyRequest(name="emoji")).ready


# Waiting, going away


def test_a_full_queue_says_when_to_come_back_and_leaving_clients_free_their_rows(server: Predictor) -> None:
    async def scenario() -> tuple[httpx.Response, Any]:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            asked = []
            for prompts, queued in (("ab", 0), ("abcd", 4)):
                request = client.post("/v2/models/emoji/infer", json=body(*prompts, steps=LONG))
                asked.append(asyncio.create_task(request))
                await asyncio.to_thread(server.wait_for_rows, 2, queued)
            refused = await client.post("/v2/models/emoji/infer", json=body("a"))
            with pytest.raises(grpc.RpcError) as caught:
                await asyncio.to_thread(server.grpc.ModelInfer, message("a"))
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return refused, caught.value

    refused, error = asyncio.run(scenario())
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 3600
    assert "queue is full" in refused.json()["error"]
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 1 <= int(dict(error.trailing_metadata())["retry-after"]) <= 3600
    server.wait_for_rows(0, 0)
    assert server.http.post("/v2/models/emoji/infer", json=body("a")).status_code == 200


def test_a_cancelled_or_late_grpc_call_frees_its_rows(server: Predictor) -> None:
    call = server.grpc.ModelInfer.future(message("a", steps=LONG))
    server.wait_for_rows(1, 0)
    call.cancel()
    server.wait_for_rows(0, 0)
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(message("a", steps=LONG), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_for_rows(0, 0)


def test_a_timeout_ends_a_request_and_frees_its_rows_on_every_api(server: Predictor) -> None:
    asked = body("a", "b", steps=LONG, timeout=0.3, priority=1)
    v1 = {"instances": ["a"], "parameters": {"num_inference_steps": LONG, "timeout": 0.3, "priority": -3}}
    for path, request in (("/v2/models/emoji/infer", asked), ("/v1/models/emoji:predict", v1)):
        reply = server.http.post(path, json=request, headers={"X-Tenant": "acme"})
        assert (reply.status_code, "done within 0.3 s" in reply.json()["error"]) == (504, True), reply.text
        server.wait_for_rows(0, 0)
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(message("a", steps=LONG, timeout=0.3), metadata=(("x-tenant", "acme"),))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "done within 0.3 s" in caught.value.details()
    server.wait_for_rows(0, 0)


def test_a_tenants_name_must_be_fit_for_a_header(server: Predictor) -> None:
    name = "a" * 129
    reply = server.http.post("/v2/models/emoji/infer", json=body("a"), headers={"X-Tenant": name})
    assert (reply.status_code, "X-Tenant" in reply.json()["error"]) == (400, True)
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(message("a"), metadata=(("x-tenant", name),))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_many_at_once_are_all_served(server: Predictor) -> None:
    def ask(number: int) -> int:
        reply = httpx.post(f"{server.url}/v2/models/emoji/infer", json=body("a", seed=number), timeout=120)
        return reply.status_code if reply.status_code != 200 else drawn(reply)["seed"][0]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(12))) == list(range(12))


# Seen from outside


def test_a_mix_is_drawn_and_told_on_every_api(server: Predictor) -> None:
    mix = "notoemoji:0.7+openmoji:0.3"
    exact = "notoemoji@1:0.7+openmoji@1:0.3"
    ask = "/v2/models/emoji/infer"
    server.http.post(ask, json=body("a", lora="openmoji"))
    before = server.gauge(r'emoji_pictures_total\{lora="openmoji@1"\}')
    first = drawn(server.http.post(ask, json=body("a", seed=1, lora=mix)))
    assert first["lora"] == [exact]
    again = drawn(server.http.post(ask, json=body("a", seed=1, lora=exact)))
    assert np.array_equal(again["image"], first["image"])
    scaled = drawn(server.http.post(ask, json=body("a", seed=1, lora=mix, lora_scale=0.5)))
    assert scaled["lora"] == [exact]
    assert not np.array_equal(scaled["image"], first["image"])
    halves = drawn(server.http.post(ask, json=body("a", seed=1, lora="notoemoji:0.35+openmoji:0.15")))
    assert np.array_equal(halves["image"], scaled["image"])
    reply = outputs(server.grpc.ModelInfer(message("a", seed=1, lora=mix)))
    assert [lora.decode() for lora in reply["lora"]] == [exact]
    instances = {"instances": [{"prompt": "a", "seed": 1, "lora": mix}, {"prompt": "a", "lora": "openmoji"}]}
    v1 = server.http.post("/v1/models/emoji:predict", json=instances).json()["predictions"]
    assert [one["lora"] for one in v1] == [exact, "openmoji@1"]
    assert server.gauge(r'emoji_pictures_total\{lora="mix"\}') == 6
    assert server.gauge(r'emoji_mixed_pictures_total\{lora="openmoji@1"\}') == 6
    assert server.gauge(r'emoji_pictures_total\{lora="openmoji@1"\}') == before + 1


def test_versions_come_and_go_while_it_serves(server: Predictor, model_dir: Path) -> None:
    store = Store(model_dir / "loras")
    former = store.resolve("openmoji@1")
    version = store.add(store.load(former), former.manifest)
    ask = f"/v2/models/{version}"
    server.wait_until(lambda: server.http.get(f"{ask}/ready").status_code == 200)
    ours = drawn(server.http.post(f"{ask}/infer", json=body("a", seed=1)))
    assert ours["lora"] == [str(version)]
    theirs = drawn(server.http.post("/v2/models/openmoji@1/infer", json=body("a", seed=1)))
    assert np.array_equal(theirs["image"], ours["image"])
    assert server.gauge("emoji_loras") == server.gauge("emoji_resident_loras") == 4
    store.remove("openmoji", version.version)
    server.wait_until(lambda: server.http.get(f"{ask}/ready").status_code == 404)
    assert server.http.post(f"{ask}/infer", json=body("a")).status_code == 404
    server.wait_until(lambda: server.gauge("emoji_loras") == 3)
    assert f"{version} is served from now on" in server.log


def test_pictures_are_counted_by_lora(server: Predictor) -> None:
    def count() -> float:
        return server.gauge(r'emoji_pictures_total\{lora="openmoji@1"\}')

    server.http.post("/v2/models/openmoji/infer", json=body("a"))
    before = count()
    server.http.post("/v2/models/openmoji/infer", json=body("a", "b"))
    assert count() == before + 2


def counted(server: Predictor) -> Counter[tuple[str, str]]:
    """Requests by model and status."""
    found = re.findall(
        r'^emoji_requests_total\{model="(.*)",status="(.*)"\} (\S+)$',
        server.http.get("/metrics").text,
        re.MULTILINE,
    )
    return Counter({(model, status): int(float(count)) for model, status, count in found})


def test_requests_are_counted_by_model_and_status_on_every_api(server: Predictor) -> None:
    def timed() -> float:
        return server.gauge(r'emoji_request_seconds_count\{model="openmoji"\}')

    ask = "/v2/models/openmoji/infer"
    assert server.http.post(ask, json=body("a")).status_code == 200
    before, times = counted(server), timed()
    assert server.http.post(ask, json=body("a")).status_code == 200
    assert server.http.post("/v1/models/openmoji:predict", json={"instances": ["a"]}).status_code == 200
    server.grpc.ModelInfer(message("a", model="openmoji"))
    assert server.http.post(ask, json=body("a", steps=0)).status_code == 400
    assert server.http.post("/v1/models/openmoji:predict", json={"instances": []}).status_code == 400
    for request in (message("a", model="openmoji", steps=0), message("a", model="openmoji", version="9")):
        with pytest.raises(grpc.RpcError):
            server.grpc.ModelInfer(request)
    assert server.http.post("/v2/models/stranger/infer", json=body("a")).status_code == 404
    assert server.http.post("/v2/repository/index").status_code == 200
    assert server.http.get("/v2/models/stranger").status_code == 404

    assert counted(server) - before == {
        ("openmoji", "200"): 3,
        ("openmoji", "400"): 3,
        ("unknown", "404"): 2,
    }
    assert timed() == times + 3
    assert "stranger" not in server.http.get("/metrics").text


def test_a_client_that_goes_away_is_counted(server: Predictor) -> None:
    before = counted(server)
    with pytest.raises(httpx.ReadTimeout):
        server.http.post("/v2/models/emoji/infer", json=body("a", steps=LONG), timeout=0.3)
    call = server.grpc.ModelInfer.future(message("a", steps=LONG))
    server.wait_for_rows(1, 0)
    call.cancel()
    server.wait_until(lambda: counted(server) - before == {("emoji", "499"): 2})


def test_a_request_has_one_log_line_without_its_prompt(server: Predictor) -> None:
    secret = "a secret"
    server.http.post("/v2/models/openmoji/infer", json=body(secret, "b"), headers={"x-request-id": "good"})
    server.http.post("/v2/models/emoji/infer", json=body(secret, steps=0), headers={"x-request-id": "bad"})
    server.grpc.ModelInfer(message(secret), metadata=(("x-request-id", "call"),))
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    good, bad, call = (
        [line for line in lines if line.get("request_id") == name] for name in ("good", "bad", "call")
    )
    assert [len(good), len(bad), len(call)] == [1, 1, 1]
    wanted = {"message": "request done", "model": "openmoji", "lora": "openmoji@1", "rows": 2, "steps": 2}
    assert wanted.items() <= good[0].items()
    assert good[0]["status"] == 200
    assert good[0]["ms"] > 0
    assert (bad[0]["status"], bad[0]["model"]) == (400, "emoji")
    assert bad[0]["error"].startswith("num_inference_steps: ")
    assert (call[0]["status"], call[0]["protocol"]) == ("OK", "grpc")
    assert secret not in server.log


# Starting and stopping


def test_a_plain_base_is_served_under_one_name_and_stops_on_ctrl_c(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    with running(tmp_path / "log", "--model_dir", str(tiny_folders["sd15"]), "--log_prompts") as server:
        assert server.http.get("/v2/models").json() == {"models": ["emoji"]}
        assert server.http.get("/v2/models/emoji").json()["versions"] == []
        reply = server.http.post("/v2/models/emoji/infer", json=body("a cat"))
        assert drawn(reply)["lora"] == ["none"]
        assert reply.json()["model_version"] == ""
        assert server.http.get("/v2/models/emoji/versions/1").status_code == 404
        assert server.stop(signal.SIGINT) == 0
        assert "Traceback" not in server.log
        assert "prompts=['a cat']" in server.log


def test_a_stopping_server_is_not_ready_and_finishes_what_it_began(model_dir: Path, tmp_path: Path) -> None:
    flags = ["--drain_delay", "10", "--grace_period", "120", "--hang_timeout", "0.0001"]
    with running(tmp_path / "log", "--model_dir", str(model_dir), *flags) as server:
        assert server.http.get("/v2/health/live").status_code == 200
        replies: list[Any] = []

        def ask() -> None:
            replies.append(
                httpx.post(f"{server.url}/v2/models/emoji/infer", json=body("a", steps=100), timeout=120)
            )

        def call() -> None:
            replies.append(server.grpc.ModelInfer(message("a", steps=100)))

        askers = [threading.Thread(target=ask), threading.Thread(target=call)]
        for asker in askers:
            asker.start()
        server.wait_for_rows(2, 0)
        # one step takes longer than this server's hang timeout allows
        server.wait_until(lambda: server.http.get("/v2/health/live").status_code == 503)
        assert not server.grpc.ServerLive(pb.ServerLiveRequest()).live

        server.process.send_signal(signal.SIGTERM)
        server.wait_until(lambda: server.http.get("/v2/health/ready").status_code == 503)
        reply = server.http.get("/v2/health/ready")
        assert (reply.status_code, reply.json()) == (503, {"error": "the server is not ready"})
        assert server.http.get("/v2/models/emoji/ready").status_code == 503
        assert not server.grpc.ServerReady(pb.ServerReadyRequest()).ready
        # balancers need a moment to notice; what they still send is served, and its connection given up
        late = server.http.post("/v2/models/emoji/infer", json=body("a", steps=1))
        assert (late.status_code, late.headers["connection"]) == (200, "close")
        server.grpc.ModelInfer(message("a", steps=1))

        assert server.process.wait(120) == 0
        for asker in askers:
            asker.join()
        assert {getattr(reply, "status_code", 200) for reply in replies} == {200}
        assert len(replies) == 2
        assert "Traceback" not in server.log


def refusal(*flags: str, **environment: str) -> str:
    command = [sys.executable, "-m", "predictor", *flags]
    env = os.environ | environment
    done = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("predictor: ")
    return line


def test_what_cannot_be_served_is_refused_with_the_reason(model_dir: Path, tmp_path: Path) -> None:
    assert "model_index.json" in refusal("--model_dir", str(tmp_path))
    missing = refusal("--model_dir", str(model_dir), DEFAULT_LOOK="openmoji@2")
    assert "default look 'openmoji@2': the store has notoemoji, openmoji, " in missing
    shutil.copytree(model_dir, tmp_path / "models")
    adapter = tmp_path / "models" / "loras" / "openmoji" / "1" / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"x")
    damaged = refusal("--model_dir", str(tmp_path / "models"), DEFAULT_LOOK="openmoji@1")
    assert f"{adapter}: SHA-256 is " in damaged


def test_a_device_that_is_not_there_is_named(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UnusableDevice, match="no CUDA device"):
        build_server(read_settings(["--model_dir", str(model_dir), "--device", "cuda"], {}))


def test_damaged_loras_that_are_not_the_default_look_are_left_out(model_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(model_dir, tmp_path / "models")
    adapter = tmp_path / "models" / "loras" / "openmoji" / "1" / "adapter.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"x")
    manifest = tmp_path / "models" / "loras" / "notoemoji" / "2" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    with running(tmp_path / "log", "--model_dir", str(tmp_path / "models")) as server:
        assert f"openmoji@1 is not served: {adapter}: SHA-256 is " in server.log
        assert f"notoemoji@2 is not served: {manifest}: is not JSON" in server.log
        assert server.http.get("/v2/models/notoemoji/ready").status_code == 200
        assert server.http.get("/v2/models/openmoji@1/ready").status_code == 404
        assert server.http.get("/v2/models/notoemoji@2/ready").status_code == 404
