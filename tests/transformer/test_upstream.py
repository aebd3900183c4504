"""The way to the predictor, over both protocols, against a real one and against ones that misbehave."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kserve import InferRequest, InferResponse
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from predictor.contract import PictureRequest, encode_body, infer_request, infer_response
from predictor.errors import (
    InvalidInput,
    QueueFull,
    UnknownModel,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from tests.transformer.conftest import Process, free_port
from tests.transformer.small_predictor import paint
from transformer.settings import Settings
from transformer.upstream import FORWARDED_HEADERS, Upstream, connect, forwarded

PROTOCOLS = ("grpc-v2", "v2")
MALFORMED = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage"

Use = Callable[[Upstream], Awaitable[Any]]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def through(settings: Settings, use: Use) -> Any:
    """Open an upstream, use it and close it, on an event loop of its own."""

    async def run() -> Any:
        upstream = connect(settings)
        try:
            return await use(upstream)
        finally:
            await upstream.close()

    return asyncio.run(run())


def settings_for(server: Process, protocol: str, **more: Any) -> Settings:
    port = server.grpc_port if protocol == "grpc-v2" else server.http_port
    return Settings(predictor_host=f"127.0.0.1:{port}", predictor_protocol=protocol, **more)


def drawing(prompt: str, model: str = "emoji", **more: Any) -> InferRequest:
    return infer_request(model, [PictureRequest(prompt, seed=3, **more)], "the-id")


def calls(server: Process, prompt: str) -> list[dict[str, Any]]:
    seen = httpx.get(f"{server.url}/calls", trust_env=False).json()
    return [call for call in seen if call["rows"][0]["prompt"] == prompt]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_pixels_seeds_and_loras_come_back(small_predictor: Process, protocol: str) -> None:
    settings = settings_for(small_predictor, protocol)
    response: InferResponse = through(settings, lambda upstream: upstream.infer(drawing("a cat"), {}))
    np.testing.assert_array_equal(
        response.get_output_by_name("image").as_numpy(), [paint("a cat", 3, "notoemoji@1")]
    )
    assert response.get_output_by_name("seed").as_numpy().tolist() == [3]
    assert list(response.get_output_by_name("lora").as_numpy()) in ([b"notoemoji@1"], ["notoemoji@1"])
    assert (response.id, response.model_version) == ("the-id", "1")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_model_is_ready_described_or_unknown(small_predictor: Process, protocol: str) -> None:
    async def use(upstream: Upstream) -> None:
        assert await upstream.ready("notoemoji@1")
        metadata = await upstream.metadata("openmoji")
        assert (metadata["name"], metadata["versions"]) == ("openmoji", ["1"])
        assert {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]} in metadata["outputs"]
        for ask in (upstream.ready, upstream.metadata):
            with pytest.raises(UnknownModel, match="nobody"):
                await ask("nobody")

    through(settings_for(small_predictor, protocol), use)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_is_passed_on_in_its_own_words(small_predictor: Process, protocol: str) -> None:
    async def use(upstream: Upstream) -> None:
        with pytest.raises(InvalidInput, match="num_inference_steps: must be from 1 to 100, got 101"):
            await upstream.infer(drawing("a cat", num_inference_steps=101), {})
        with pytest.raises(QueueFull) as full:
            await upstream.infer(drawing("queue full"), {})
        assert full.value.headers == {"Retry-After": "7"}
        assert str(full.value).count("try again") == 1
        with pytest.raises(UnknownModel, match="nobody"):
            await upstream.infer(drawing("a cat", model="nobody"), {})

    through(settings_for(small_predictor, protocol), use)
    assert len(calls(small_predictor, "queue full")) >= 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("prompt", ["crash", "fail"])
def test_what_fails_inside_the_predictor_stays_there(
    small_predictor: Process, protocol: str, prompt: str
) -> None:
    before = len(calls(small_predictor, prompt))
    with pytest.raises(UpstreamError) as failed:
        through(settings_for(small_predictor, protocol), lambda upstream: upstream.infer(drawing(prompt), {}))
    assert str(failed.value) == "the predictor failed"
    assert len(calls(small_predictor, prompt)) == before + 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_slow_predictor_times_out_once_and_stops_its_work(small_predictor: Process, protocol: str) -> None:
    prompt = f"sleep 20.{PROTOCOLS.index(protocol)}"
    with pytest.raises(UpstreamTimeout, match=r"within 0.5 s"):
        through(
            settings_for(small_predictor, protocol), lambda upstream: upstream.infer(drawing(prompt), {}, 0.5)
        )
    wait_until(lambda: [call["end"] for call in calls(small_predictor, prompt)] == ["CancelledError"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_cannot_ask_for_more_time_than_the_server_gives(
    small_predictor: Process, protocol: str
) -> None:
    settings = settings_for(small_predictor, protocol, predictor_timeout=0.3)
    with pytest.raises(UpstreamTimeout, match=r"within 0.3 s"):
        through(settings, lambda upstream: upstream.infer(drawing("sleep 19"), {}, 60))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cancelling_a_call_cancels_the_predictors_work(small_predictor: Process, protocol: str) -> None:
    prompt = f"sleep 30.{PROTOCOLS.index(protocol)}"

    async def use(upstream: Upstream) -> None:
        call = asyncio.create_task(upstream.infer(drawing(prompt), {}))
        await asyncio.to_thread(wait_until, lambda: bool(calls(small_predictor, prompt)))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    through(settings_for(small_predictor, protocol), use)
    wait_until(lambda: [call["end"] for call in calls(small_predictor, prompt)] == ["CancelledError"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_only_the_listed_headers_reach_the_predictor(small_predictor: Process, protocol: str) -> None:
    given = {"X-Request-Id": "r-1", "cookie": "secret", "authorization": "Bearer é"}
    prompt = f"headers {protocol}"
    through(settings_for(small_predictor, protocol), lambda upstream: upstream.infer(drawing(prompt), given))
    (call,) = calls(small_predictor, prompt)
    assert call["headers"]["x-request-id"] == "r-1"
    assert not call["headers"].keys() & {"cookie", "authorization"}


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from((*FORWARDED_HEADERS, "X-Request-ID", "cookie")), st.text()))
def test_forwarded_headers_are_fit_for_grpc(headers: dict[str, str]) -> None:
    for name, value in forwarded(headers).items():
        assert name in FORWARDED_HEADERS
        assert value.isascii()
        assert value.isprintable()


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


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_predictor_that_never_answers_does_not_hang_the_caller(protocol: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await hang_up(writer)

    async def use(upstream: Upstream) -> None:
        with pytest.raises((UpstreamTimeout, UpstreamUnavailable)):
            await upstream.infer(drawing("a cat"), {}, 0.5)

    with_server(silent, use, predictor_protocol=protocol, predictor_connect_timeout=0.2)


@pytest.mark.parametrize(
    "answer",
    [
        MALFORMED,
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]",
        b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"outputs":[0]}',
        b"HTTP/1.1 200 OK\r\ninference-header-content-length: x\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
def test_garbage_is_a_bad_gateway_and_is_not_asked_for_again(answer: bytes) -> None:
    connections = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await hang_up(writer)

    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamError, match="cannot be read"):
            await upstream.infer(drawing("a cat"), {})

    with_server(speak, use, predictor_protocol="v2")
    assert connections == 1


def test_a_proxys_429_is_no_body_that_is_too_large() -> None:
    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 18\r\n\r\nlocal_rate_limited")
        await hang_up(writer)

    async def use(upstream: Upstream) -> None:
        with pytest.raises(QueueFull, match="too many requests; try again in 1 s"):
            await upstream.infer(drawing("a cat"), {})

    with_server(speak, use, predictor_protocol="v2")


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
    connections = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await hang_up(writer)

    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamUnavailable):
            await upstream.infer(drawing("a cat"), {})

    with_server(speak, use, predictor_protocol="v2", predictor_retries=2)
    assert connections == 3


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

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = f"inference-header-content-length: {json_length}\r\ncontent-length: {len(body)}"
            writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body)
            await hang_up(writer)

        async with await asyncio.start_server(speak, "127.0.0.1", port):
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


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def with_server(serve: Serve, use: Use, **settings: Any) -> None:
    """Use an upstream whose other end is a bare TCP server."""

    connections: list[asyncio.Task[None]] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(asyncio.create_task(serve(reader, writer)))

    async def run() -> None:
        server = await asyncio.start_server(accept, "127.0.0.1", free_port())
        host, port = server.sockets[0].getsockname()
        upstream = connect(Settings(f"{host}:{port}", **settings))
        try:
            await use(upstream)
        finally:
            await upstream.close()
            server.close()
            await asyncio.gather(*connections, return_exceptions=True)

    asyncio.run(run())


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
