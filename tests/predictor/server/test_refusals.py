"""What is refused, with which status, and what it says."""

from typing import Any

import grpc
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb

from tests.predictor.server.asking import LONG, body, message
from tests.predictor.serving import Predictor


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
