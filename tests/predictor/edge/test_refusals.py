"""What a caller is told of a model that fails, by REST and by gRPC."""

import asyncio
from typing import Any

import grpc
import httpx
import pytest
from kserve.errors import InvalidInput as SdkInvalidInput
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.edge.gate import Gate
from predictor.edge.grpc import grpc_server
from predictor.edge.rest import rest_app
from predictor.errors import DeadlineExceeded, QueueFull
from tests.predictor.edge.failing import API, dataplane

SECRET = "/mnt/models/secret.safetensors"


def post(error: BaseException) -> httpx.Response:
    async def ask() -> httpx.Response:
        app = Gate(rest_app(dataplane(error), API, docs=True), max_body_bytes=1000)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post(
                "/v2/models/emoji/infer", json={"inputs": []}, headers={"x-request-id": "id-1"}
            )

    return asyncio.run(ask())


def call(error: BaseException) -> grpc.aio.AioRpcError:
    async def ask() -> grpc.aio.AioRpcError:
        server = grpc_server(dataplane(error), max_request_bytes=1000)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await GRPCInferenceServiceStub(channel).ModelInfer(
                    pb.ModelInferRequest(model_name="emoji"), metadata=(("x-request-id", "id-1"),)
                )
        await server.stop(None)
        return caught.value

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "error",
    [RuntimeError(SECRET), KeyError(SECRET), NotImplementedError(SECRET), FileNotFoundError(2, "no", SECRET)],
)
def test_an_unexpected_error_is_told_by_its_request_id_only(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    reply = post(error)
    assert (reply.status_code, reply.json()) == (500, {"error": "internal error (request id-1)"})
    raised = call(error)
    assert raised.code() is grpc.StatusCode.INTERNAL
    assert raised.details() == "internal error (request id-1)"
    logged = [record for record in caplog.records if record.message == "unexpected error"]
    assert [record.exc_info[1] for record in logged if record.exc_info] == [error, error]
    assert {record.__dict__["fields"]["request_id"] for record in logged} == {"id-1"}


@pytest.mark.parametrize(
    ("error", "status", "code", "message"),
    [
        (SdkInvalidInput("no good"), 400, grpc.StatusCode.INVALID_ARGUMENT, "request: no good"),
        (DeadlineExceeded("too long"), 504, grpc.StatusCode.DEADLINE_EXCEEDED, "too long"),
        (QueueFull(2), 429, grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full; try again in 2 s"),
    ],
)
def test_a_known_error_has_its_statuses(error: Exception, status: int, code: Any, message: str) -> None:
    reply = post(error)
    assert (reply.status_code, reply.json()) == (status, {"error": message})
    raised = call(error)
    assert (raised.code(), raised.details()) == (code, message)
    if isinstance(error, QueueFull):
        assert reply.headers["retry-after"] == dict(raised.trailing_metadata())["retry-after"] == "2"
