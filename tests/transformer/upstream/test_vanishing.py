"""A predictor whose node is gone without a word: its connections stay open, and nothing comes by them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import numpy as np
import pytest
from kserve import InferResponse, Model

from predictor.contract import infer_response
from predictor.edge.grpc import CLIENT_PING_S, grpc_server
from predictor.errors import ServingError
from tests.predictor.edge.failing import dataplane
from tests.transformer.upstream.reaching import drawing
from transformer.settings import Settings
from transformer.upstream import Upstream, connect
from transformer.upstream import grpc as client


class Patient(Model):
    """Draws when it is told to; `asked` counts those who wait."""

    platform = "none"
    versions: tuple[str, ...] = ()

    def __init__(self) -> None:
        super().__init__("emoji")
        self.asked = 0
        self.may_draw = asyncio.Event()

    def validate(self, payload: Any) -> Any:
        return payload

    async def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> InferResponse:
        self.asked += 1
        await self.may_draw.wait()
        return infer_response(
            model_name="emoji",
            model_version="1",
            response_id="1",
            images=np.zeros((1, 8, 8, 3), np.uint8),
            seeds=[3],
            loras=["notoemoji@1"],
            outputs=["image", "seed", "lora"],
        )


@asynccontextmanager
async def predictor(model: Model, **limits: float) -> AsyncIterator[int]:
    """The predictor's own gRPC server with that model; gives its port."""
    plane = dataplane(ServingError("not this one"))
    plane.model_registry.update(model)
    server: grpc.aio.Server = grpc_server(plane, max_request_bytes=100_000, **limits)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def upstream_to(port: int) -> AsyncIterator[Upstream]:
    upstream = connect(Settings(f"127.0.0.1:{port}"))
    try:
        yield upstream
    finally:
        await upstream.close()


def test_a_vanished_predictor_is_noticed_and_another_one_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PING_S", 0.2)
    monkeypatch.setattr(client, "PONG_S", 0.2)
    connections: list[asyncio.Event] = []

    async def forward(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gone: asyncio.Event
    ) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                if not gone.is_set():
                    writer.write(data)
        writer.close()

    async def run() -> InferResponse:
        model = Patient()
        async with predictor(model, client_ping_s=0.1) as port:

            async def network(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                gone = asyncio.Event()
                connections.append(gone)
                to_pod = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(forward(reader, to_pod[1], gone), forward(to_pod[0], writer, gone))

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                forwarding.append(asyncio.create_task(network(reader, writer)))

            forwarding: list[asyncio.Task[None]] = []
            service = await asyncio.start_server(accept, "127.0.0.1", 0)
            async with upstream_to(service.sockets[0].getsockname()[1]) as upstream:
                call = asyncio.create_task(upstream.infer(drawing("a cat"), {}, 20.0))
                while not model.asked:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.01)
                connections[0].set()
                model.may_draw.set()
                response = await call
            service.close()
            await asyncio.gather(*forwarding)
            return response

    assert asyncio.run(run()).get_output_by_name("seed").as_numpy().tolist() == [3]
    assert len(connections) == 2


def test_a_predictor_that_draws_for_long_is_asked_patiently_and_bears_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server of gRPC's cuts the connection of clients that ask more often than it likes."""
    assert client.PING_S > CLIENT_PING_S, "the margin between the two, as they are served"
    monkeypatch.setattr(client, "PING_S", 0.1)

    async def run() -> int:
        model = Patient()
        async with predictor(model, client_ping_s=0.05) as port, upstream_to(port) as upstream:
            call = asyncio.create_task(upstream.infer(drawing("a cat"), {}, 60.0))
            await asyncio.sleep(6.0)  # a ping a second, gRPC's most; four are too many without consent
            model.may_draw.set()
            await call
            return model.asked

    assert asyncio.run(run()) == 1, "the first try was not cut off"
