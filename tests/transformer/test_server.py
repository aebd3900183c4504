"""The transformer as its callers see it: a process, REST and gRPC, and a real predictor behind it."""

import asyncio
import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelMetadataRequest, ModelReadyRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from PIL import Image
from prometheus_client import CollectorRegistry

from predictor.edge import PortInUse, ServerSettings
from tests.transformer.conftest import ROOT, Process, free_port, serving
from tests.transformer.small_predictor import paint
from transformer.server import build_server
from transformer.settings import Settings


@pytest.fixture(params=["grpc", "rest"])
def either(request: pytest.FixtureRequest) -> Process:
    """A transformer for each way to the predictor."""
    name = {"grpc": "transformer", "rest": "rest_transformer"}[request.param]
    server: Process = request.getfixturevalue(name)
    return server


def body(*prompts: str, **more: Any) -> dict[str, Any]:
    prompt = {"name": "prompt", "shape": [len(prompts)], "datatype": "BYTES", "data": list(prompts)}
    return {"inputs": [prompt], **more}


def post(server: Process, path: str, json: Any = None, **more: Any) -> httpx.Response:
    return httpx.post(server.url + path, json=json, trust_env=False, timeout=30, **more)


def get(server: Process, path: str) -> httpx.Response:
    return httpx.get(server.url + path, trust_env=False, timeout=30)


def outputs(reply: httpx.Response) -> dict[str, Any]:
    assert reply.status_code == 200, reply.text
    return {output["name"]: output["data"] for output in reply.json()["outputs"]}


def pixels(file: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(file)))


def calls(predictor: Process, prompt: str) -> list[dict[str, Any]]:
    return [call for call in get(predictor, "/calls").json() if call["rows"][0]["prompt"] == prompt]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


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


@pytest.mark.parametrize(
    ("path", "lora"),
    [
        ("emoji", "notoemoji@1"),
        ("kor-serve", "notoemoji@1"),
        ("notoemoji@1", "notoemoji@1"),
        ("notoemoji/versions/1", "notoemoji@1"),
        ("openmoji", "openmoji@1"),
    ],
)
def test_the_predictors_names_and_our_own(transformer: Process, path: str, lora: str) -> None:
    assert outputs(post(transformer, f"/v2/models/{path}/infer", body("a cat")))["lora"] == [lora]
    assert get(transformer, f"/v2/models/{path}/ready").status_code == 200
    described = get(transformer, f"/v2/models/{path}").json()
    assert "language" in [tensor["name"] for tensor in described["inputs"]]
    assert [tensor["name"] for tensor in described["outputs"]][:2] == ["image", "prompt"]


@pytest.mark.parametrize("path", ["nobody", "notoemoji@9", "notoemoji/versions/9", "%2e%2e", "a%20b"])
def test_names_that_nobody_has(either: Process, path: str) -> None:
    for reply in (
        post(either, f"/v2/models/{path}/infer", body("a cat")),
        get(either, f"/v2/models/{path}/ready"),
        get(either, f"/v2/models/{path}"),
    ):
        assert reply.status_code == 404
    assert not {"nobody", "notoemoji@9"} & set(get(either, "/v2/models").json()["models"])


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


def test_grpc_errors(transformer: Process) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{transformer.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)

        def refused(call: Callable[..., Any], message: Any) -> grpc.Call:
            with pytest.raises(grpc.RpcError) as error:
                call(message)
            return error.value  # type: ignore[return-value]

        def infer(*prompts: str, model: str = "emoji", **more: Any) -> grpc.Call:
            prompt = InferInput("prompt", [len(prompts)], "BYTES", list(prompts))
            return refused(stub.ModelInfer, InferRequest(model, [prompt], **more).to_grpc())

        bad = infer("a", parameters={"size": 0})
        assert (bad.code(), bad.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "size: must be from 1 to 2048, got 0",
        )
        full = infer("queue full")
        assert full.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("retry-after", "7") in [(key, value) for key, value in full.trailing_metadata()]
        assert infer("a", model="nobody").code() is grpc.StatusCode.NOT_FOUND
        assert infer("sleep 20", parameters={"timeout_ms": 200}).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        crashed = infer("crash")
        assert crashed.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in crashed.details()
        for call, message in (
            (stub.ModelReady, ModelReadyRequest(name="nobody")),
            (stub.ModelMetadata, ModelMetadataRequest(name="emoji", version="9")),
        ):
            assert refused(call, message).code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("request_body", "status", "message"),
    [
        (body("a", parameters={"format": "gif"}), 400, "format: must be one of png, webp, jpeg"),
        (
            body("a", parameters={"num_inference_steps": 101}),
            400,
            "num_inference_steps: must be from 1 to 100",
        ),
        (body(*"abcdefghi"), 400, "prompt: must hold from 1 to 8 prompts, holds 9"),
        (body("a" * 1001), 400, "prompt: must have at most 1000 characters"),
        ({"inputs": 3}, 400, "inputs: "),
        (body("queue full"), 429, "the queue is full; try again in 7 s"),
        (body("crash"), 502, "the predictor failed"),
        (body("flat"), 502, "the predictor's answer is not what was asked for"),
        (body("no lora"), 502, "the predictor's answer cannot be read"),
        (body("sleep 20", parameters={"timeout_ms": 200}), 504, "the predictor did not answer within 0."),
        (body("a" * (1 << 20)), 413, "the body may have at most 1048576 bytes"),
    ],
)
def test_errors(either: Process, request_body: dict[str, Any], status: int, message: str) -> None:
    reply = post(either, "/v2/models/emoji/infer", request_body)
    assert reply.status_code == status
    assert reply.json()["error"].startswith(message)
    assert "secret" not in reply.text
    assert reply.headers.get("retry-after") == ("7" if status == 429 else None)


def test_models_cannot_be_unloaded_by_strangers(transformer: Process) -> None:
    assert post(transformer, "/v2/repository/models/emoji/unload").status_code in (404, 405, 501)
    assert get(transformer, "/v2/models/emoji/ready").status_code == 200


def test_a_rest_client_that_goes_away_stops_the_drawing(either: Process, small_predictor: Process) -> None:
    prompt = f"sleep 25.{either.http_port}"
    content = json.dumps(body(prompt)).encode()
    with socket.create_connection(("127.0.0.1", either.http_port)) as client:
        head = f"POST /v2/models/emoji/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
        client.sendall(head.encode() + content)
        wait_until(lambda: len(calls(small_predictor, prompt)) == 1)
    wait_until(lambda: calls(small_predictor, prompt)[0]["end"] == "CancelledError")


def test_a_grpc_client_that_goes_away_stops_the_drawing(either: Process, small_predictor: Process) -> None:
    prompt = f"sleep 26.{either.http_port}"
    request = InferRequest("emoji", [InferInput("prompt", [1], "BYTES", [prompt])]).to_grpc()
    with grpc.insecure_channel(f"127.0.0.1:{either.grpc_port}") as channel:
        call = GRPCInferenceServiceStub(channel).ModelInfer.future(request)
        wait_until(lambda: len(calls(small_predictor, prompt)) == 1)
        call.cancel()
    wait_until(lambda: calls(small_predictor, prompt)[0]["end"] == "CancelledError")


def test_request_ids_and_traces_reach_the_predictor(either: Process, small_predictor: Process) -> None:
    prompt = f"trace {either.http_port}"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"x-request-id": "mine", "traceparent": trace}
    assert (
        post(either, "/v2/models/emoji/infer", body(prompt), headers=headers).headers["x-request-id"]
        == "mine"
    )
    assert (post(either, "/v2/models/emoji/infer", body(prompt))).status_code == 200
    first, second = (call["headers"] for call in calls(small_predictor, prompt))
    assert (first["x-request-id"], first["traceparent"]) == ("mine", trace)
    assert len(second["x-request-id"]) == 36


def test_a_sticky_key_reaches_the_predictor(either: Process, small_predictor: Process) -> None:
    prompt = f"sticky {either.http_port}"
    headers = {"X-Sticky-Key": "user 7"}
    assert post(either, "/v2/models/emoji/infer", body(prompt), headers=headers).status_code == 200
    old = {"prompt": prompt, "model": "emoji"}
    assert post(either, "/eng_submit", old, headers=headers).status_code == 200
    request = InferRequest("emoji", [InferInput("prompt", [1], "BYTES", [prompt])]).to_grpc()
    with grpc.insecure_channel(f"127.0.0.1:{either.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request, metadata=(("x-sticky-key", "user 7"),), timeout=30)
    rows = [call["rows"][0] for call in calls(small_predictor, prompt)]
    assert [row["sticky_key"] for row in rows] == ["user 7"] * 3


def test_a_grpc_calls_deadline_reaches_the_predictor(either: Process, small_predictor: Process) -> None:
    prompt = f"deadline {either.http_port}"
    with grpc.insecure_channel(f"127.0.0.1:{either.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        for timeout, terms in ((30, {}), (None, {}), (30, {"timeout": "3600"}), (30, {"timeout_ms": 20_000})):
            request = InferRequest("emoji", [InferInput("prompt", [1], "BYTES", [prompt])], parameters=terms)
            stub.ModelInfer(request.to_grpc(), timeout=timeout)
    first, none, longer, shorter = (call["rows"][0].get("timeout") for call in calls(small_predictor, prompt))
    assert none is None
    assert 0 < first < 31  # gRPC rounds
    assert 0 < longer < 31
    assert 0 < shorter < 20


def test_timeout_priority_and_tenant_reach_the_predictor(either: Process, small_predictor: Process) -> None:
    prompt = f"terms {either.http_port}"
    given = body(prompt, parameters={"timeout": 20.5, "timeout_ms": 30_000, "priority": 2})
    headers = {"X-Tenant": "acme"}
    assert post(either, "/v2/models/emoji/infer", given, headers=headers).status_code == 200
    v1 = {"instances": [prompt], "parameters": {"timeout_ms": 20_500, "priority": 2}}
    assert post(either, "/v1/models/emoji:predict", v1, headers=headers).status_code == 200
    terms = {"timeout": "20.5", "priority": 2}
    request = InferRequest("emoji", [InferInput("prompt", [1], "BYTES", [prompt])], parameters=terms)
    with grpc.insecure_channel(f"127.0.0.1:{either.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request.to_grpc(), metadata=(("x-tenant", "acme"),), timeout=30)
    found = calls(small_predictor, prompt)
    assert [call["rows"][0]["priority"] for call in found] == [2] * 3
    assert all(0 < call["rows"][0]["timeout"] < 20.5 for call in found)  # what is left of it
    assert [call["headers"]["x-tenant"] for call in found] == ["acme"] * 3
    odd = post(either, "/v2/models/emoji/infer", given, headers={"X-Tenant": "a" * 129})
    assert (odd.status_code, "X-Tenant" in odd.json()["error"]) == (400, True)


def test_the_metadata_of_a_weighted_alias_comes_through(rest_transformer: Process) -> None:
    assert get(rest_transformer, "/v2/models/emoji").json()["parameters"] == {"route": {"notoemoji@1": 100}}
    assert "parameters" not in get(rest_transformer, "/v2/models/openmoji").json()


def test_requests_are_counted(transformer: Process) -> None:
    def count() -> float:
        text = get(transformer, "/metrics").text
        return sum(
            float(line.split()[-1])
            for line in text.splitlines()
            if line.startswith('emoji_requests_total{model="openmoji",status="200"}')
        )

    before = count()
    assert post(transformer, "/v2/models/openmoji/infer", body("a cat")).status_code == 200
    assert count() == before + 1
    assert post(transformer, "/v2/models/stranger/infer", body("a cat")).status_code == 404
    assert "stranger" not in get(transformer, "/metrics").text


def test_the_log_has_one_line_a_request_and_no_prompt(transformer: Process) -> None:
    post(transformer, "/v2/models/emoji/infer", body("a 비밀 word"), headers={"x-request-id": "look-for-me"})
    (line,) = [line for line in transformer.log.read_text().splitlines() if "look-for-me" in line]
    assert "model=emoji" in line
    assert "translated=1" in line
    assert "비밀" not in transformer.log.read_text()


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


def test_without_a_predictor_it_lives_and_is_not_ready(tmp_path: Path) -> None:
    host = f"127.0.0.1:{free_port()}"
    flags = ("--predictor_host", host, "--predictor_connect_timeout_seconds", "0.2")
    with serving("transformer", *flags, log=tmp_path / "log") as server:
        assert get(server, "/v2/health/live").json() == {"live": True}
        for path in ("/v2/health/ready", "/v2/models/emoji/ready"):
            assert get(server, path).status_code == 503
        for path, request in (
            ("/v2/models/emoji/infer", body("a cat")),
            ("/v2/models/notoemoji/infer", body("a cat")),
            ("/kor_submit", {"prompt": "a cat"}),
        ):
            reply = post(server, path, request)
            assert (reply.status_code, reply.json()["error"][:31]) == (503, "the predictor cannot be reached")
            assert "127.0.0.1" not in reply.text
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(15) == 0
        assert "Traceback" not in server.log.read_text()


def test_sigterm_lets_requests_finish_and_ends_with_zero(small_predictor: Process, tmp_path: Path) -> None:
    prompt = "sleep 1.5"
    flags = ("--predictor_host", f"127.0.0.1:{small_predictor.grpc_port}")
    with serving("transformer", *flags, log=tmp_path / "log", wait_for="/v2/health/ready") as server:
        content = json.dumps(body(prompt)).encode()
        with socket.create_connection(("127.0.0.1", server.http_port)) as client:
            head = (
                f"POST /v2/models/emoji/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(content)}\r\n\r\n"
            )
            client.sendall(head.encode() + content)
            wait_until(lambda: len(calls(small_predictor, prompt)) == 1)
            server.process.send_signal(signal.SIGTERM)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert server.process.wait(15) == 0
        assert "Traceback" not in server.log.read_text()


def test_a_stopping_server_is_not_ready_and_serves_what_still_arrives(
    small_predictor: Process, tmp_path: Path
) -> None:
    flags = ("--predictor_host", f"127.0.0.1:{small_predictor.grpc_port}", "--drain_delay", "8")
    ask = "/v2/models/emoji/infer"
    with (
        serving("transformer", *flags, log=tmp_path / "log", wait_for="/v2/health/ready") as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        stub = GRPCInferenceServiceStub(channel)

        def call(prompt: str) -> InferRequest:
            return InferRequest("emoji", [InferInput("prompt", [1], "BYTES", [prompt])]).to_grpc()

        longer = pool.submit(post, server, ask, body("sleep 5.1"))
        longer_call = stub.ModelInfer.future(call("sleep 5.2"), timeout=60)
        for prompt in ("sleep 5.1", "sleep 5.2"):
            wait_until(lambda: len(calls(small_predictor, prompt)) == 1)  # noqa: B023
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(server, "/v2/health/ready").status_code == 503)
        late = post(server, ask, body("a cat"))
        assert (late.status_code, late.headers["connection"]) == (200, "close")
        assert stub.ModelInfer(call("a cat"), timeout=30).model_name == "emoji"
        assert longer.result().status_code == 200
        assert longer_call.result().model_name == "emoji"
        assert server.process.wait(60) == 0


def test_a_translator_that_is_not_there_ends_the_start_with_the_reason() -> None:
    flags = ["--predictor_host", "x", "--translator", "seq2seq", "--translator_dir", "/nowhere"]
    command = [sys.executable, "-m", "transformer", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("transformer: ")
    assert "/nowhere" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_certificates_that_are_not_there_end_the_start_with_the_reason() -> None:
    flags = ["--predictor_host", "x", "--predictor_use_ssl", "true"]
    flags += ["--http_port", str(free_port()), "--grpc_port", str(free_port())]
    command = [sys.executable, "-m", "transformer", *flags]
    environment = os.environ | {"REQUESTS_CA_BUNDLE": "/nowhere.pem"}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("transformer: ")
    assert "/nowhere.pem" in ended.stderr.splitlines()[-1]
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_port_in_use_is_named(kind: str) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        ports = {"http_port": free_port(), "grpc_port": free_port()}
        ports[f"{kind}_port"] = taken.getsockname()[1]
        server = build_server(Settings("nowhere", ServerSettings(**ports)), CollectorRegistry())
        with pytest.raises(PortInUse, match=f"choose another with --{kind}_port"):
            server.start()


def test_the_server_needs_no_torch() -> None:
    code = "import sys, transformer.server; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, check=False).returncode == 0
