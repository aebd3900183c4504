"""How long a call waits for the predictor, and that it ends the predictor's work when it waits no more."""

import asyncio

import grpc
import pytest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import (
    GRPCInferenceServiceServicer,
    add_GRPCInferenceServiceServicer_to_server,
)

from predictor.errors import UpstreamTimeout, UpstreamUnavailable
from tests.transformer.serving import Process, calls, wait_until
from tests.transformer.upstream.reaching import (
    PROTOCOLS,
    drawing,
    hang_up,
    settings_for,
    through,
    with_server,
)
from transformer.settings import Settings
from transformer.upstream import Upstream, connect


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
def test_a_predictor_that_never_answers_does_not_hang_the_caller(protocol: str) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await hang_up(writer)

    async def use(upstream: Upstream) -> None:
        # a gRPC server says something first: this one was never connected
        with pytest.raises(UpstreamUnavailable if protocol == "grpc-v2" else UpstreamTimeout):
            await upstream.infer(drawing("a cat"), {}, 0.5)

    with_server(silent, use, predictor_protocol=protocol, predictor_connect_timeout=0.2)


def test_a_predictor_that_draws_for_many_is_still_found_ready() -> None:
    """However many draws are under way, over REST each by a connection of its own."""
    drawing_now = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal drawing_now
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        else:
            drawing_now += 1
            await reader.read()  # until the caller goes away
        await hang_up(writer)

    async def use(upstream: Upstream) -> None:
        draws = [asyncio.create_task(upstream.infer(drawing("a cat"), {})) for _ in range(100)]
        while drawing_now < len(draws):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
        assert await upstream.ready("emoji")
        for draw in draws:
            draw.cancel()
        await asyncio.gather(*draws, return_exceptions=True)

    with_server(serve, use, predictor_protocol="v2")


def test_a_predictor_that_is_found_after_a_lost_try_and_is_slow_times_out() -> None:
    """It's not unavailable: that would be sent again by those who get it."""
    tries = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        await reader.readuntil(b"\r\n\r\n")
        if tries > 1:
            await reader.read()  # until the caller gives up
        await hang_up(writer)

    async def use(upstream: Upstream) -> None:
        with pytest.raises(UpstreamTimeout, match="did not answer within 1 s"):
            await upstream.infer(drawing("a cat"), {}, 1.0)

    assert with_server(serve, use, predictor_protocol="v2") == 2


def test_a_predictor_that_is_found_after_a_lost_try_and_is_slow_times_out_over_grpc() -> None:
    tries = 0

    class Servicer(GRPCInferenceServiceServicer):
        async def ModelInfer(self, request: object, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
            nonlocal tries
            tries += 1
            if tries == 1:
                await context.abort(grpc.StatusCode.UNAVAILABLE)
            await asyncio.sleep(60)

    async def run() -> None:
        server = grpc.aio.server()
        add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        upstream = connect(Settings(f"127.0.0.1:{port}"))
        try:
            with pytest.raises(UpstreamTimeout, match="did not answer within 1 s"):
                await upstream.infer(drawing("a cat"), {}, 1.0)
        finally:
            await upstream.close()
            await server.stop(None)

    asyncio.run(run())
    assert tries == 2
