"""Predictors that are down, get lost or answer with garbage: which calls are made again and which are not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import numpy as np
import pytest
from kserve import InferResponse
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from predictor.contract import encode_body, infer_response
from predictor.errors import QueueFull, UpstreamError, UpstreamUnavailable
from tests.transformer.serving import free_port
from tests.transformer.upstream.reaching import PROTOCOLS, answering, drawing, through, with_server
from transformer.settings import Settings
from transformer.upstream import Upstream, connect


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_predictor_that_is_down_is_unavailable(protocol: str) -> None:
    settings = Settings(
        f"127.0.0.1:{free_port()}",
        predictor_protocol=protocol,
        predictor_connect_timeout=0.2,
        predictor_retries=1,
    )

    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamUnavailable, match="cannot be reached") as down:
            await upstream.infer(drawing("a cat"), {})
        assert "127.0.0.1" not in str(down.value)
        assert not await upstream.ready("emoji")

    through(settings, use)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"outputs":[0]}',
        b"HTTP/1.1 200 OK\r\ninference-header-content-length: x\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_garbage_is_a_bad_gateway_and_is_not_asked_for_again(answer: bytes) -> None:
    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamError, match="cannot be read"):
            await upstream.infer(drawing("a cat"), {})

    assert with_server(answering(answer), use, predictor_protocol="v2") == 1


def test_a_proxys_429_is_no_body_that_is_too_large() -> None:
    answer = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 18\r\n\r\nlocal_rate_limited"

    async def use(upstream: Upstream) -> None:
        with pytest.raises(QueueFull, match="too many requests; try again in 1 s"):
            await upstream.infer(drawing("a cat"), {})

    with_server(answering(answer), use, predictor_protocol="v2")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n" + b"x" * 50,
        b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
    ],
    ids=["no answer", "half an answer", "502", "503"],
)
def test_a_predictor_that_was_lost_is_asked_again_and_no_more_than_that(answer: bytes) -> None:
    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamUnavailable):
            await upstream.infer(drawing("a cat"), {})

    assert with_server(answering(answer), use, predictor_protocol="v2", predictor_retries=2) == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_predictor_that_comes_up_during_the_retries_is_used(protocol: str) -> None:
    async def run() -> InferResponse:
        port = free_port()
        upstream = connect(Settings(f"127.0.0.1:{port}", predictor_protocol=protocol, predictor_retries=5))
        call = asyncio.create_task(upstream.infer(drawing("a late cat"), {}))
        await asyncio.sleep(0.15)
        async with late_predictor(protocol, port):
            try:
                return await call
            finally:
                await upstream.close()

    assert asyncio.run(run()).get_output_by_name("seed").as_numpy().tolist() == [3]


@asynccontextmanager
async def late_predictor(protocol: str, port: int) -> AsyncIterator[None]:
    """One that says the same thing to everybody."""
    reply = infer_response(
        model_name="emoji",
        model_version="1",
        response_id="1",
        images=np.zeros((1, 8, 8, 3), np.uint8),
        seeds=[3],
        loras=["notoemoji@1"],
        outputs=["image", "seed", "lora"],
    )
    if protocol == "v2":
        body, json_length = encode_body(reply, frozenset({"image"}))
        head = f"inference-header-content-length: {json_length}\r\ncontent-length: {len(body)}"
        serve = answering(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
        async with await asyncio.start_server(serve, "127.0.0.1", port):
            yield
    else:

        class Servicer(GRPCInferenceServiceServicer):
            async def ModelInfer(self, request: object, context: object) -> object:  # noqa: N802
                return reply.to_grpc()

        server = grpc.aio.server()
        add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        yield
        await server.stop(None)
