"""What is refused or fails, and what the caller is told."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelMetadataRequest, ModelReadyRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.transformer.server.asking import body, message, post
from tests.transformer.serving import Process


@pytest.mark.parametrize(
    ("request_body", "status", "error"),
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
def test_errors(either: Process, request_body: dict[str, Any], status: int, error: str) -> None:
    reply = post(either, "/v2/models/emoji/infer", request_body)
    assert reply.status_code == status
    assert reply.json()["error"].startswith(error)
    assert "secret" not in reply.text
    assert reply.headers.get("retry-after") == ("7" if status == 429 else None)


def test_grpc_errors(transformer: Process) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{transformer.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)

        def refused(call: Callable[..., Any], asked: Any) -> grpc.Call:
            with pytest.raises(grpc.RpcError) as error:
                call(asked)
            return error.value  # type: ignore[return-value]

        def infer(prompt: str, **more: Any) -> grpc.Call:
            return refused(stub.ModelInfer, message(prompt, **more))

        bad = infer("a", size=0)
        assert (bad.code(), bad.details()) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "size: must be from 1 to 2048, got 0",
        )
        full = infer("queue full")
        assert full.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("retry-after", "7") in [(key, value) for key, value in full.trailing_metadata()]
        assert infer("a", model="nobody").code() is grpc.StatusCode.NOT_FOUND
        assert infer("sleep 20", timeout_ms=200).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        crashed = infer("crash")
        assert crashed.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in crashed.details()
        strange = "".join(map(chr, range(0xBDC1, 0xBDC1 + 1000)))  # syllables that make no word
        unknown = infer(strange)
        assert unknown.code() is grpc.StatusCode.INVALID_ARGUMENT, "its trailers are not too long for gRPC"
        assert unknown.details().startswith("prompt: no word of it could be translated: 뷁")
        assert len(unknown.details().encode()) < 500, "of some 8 KiB gRPC drops trailers by chance"
        for call, asked in (
            (stub.ModelReady, ModelReadyRequest(name="nobody")),
            (stub.ModelMetadata, ModelMetadataRequest(name="emoji", version="9")),
        ):
            assert refused(call, asked).code() is grpc.StatusCode.NOT_FOUND
