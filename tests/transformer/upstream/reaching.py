"""The way to a predictor, opened, used and closed; the predictor may be a bare TCP server."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from kserve import InferRequest

from predictor.contract import PictureRequest, infer_request
from tests.transformer.serving import Process, free_port
from transformer.settings import Settings
from transformer.upstream import Upstream, connect

PROTOCOLS = ("grpc-v2", "v2")

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


def with_server(serve: Serve, use: Use, **settings: Any) -> int:
    """Use an upstream whose other end is a bare TCP server; returns how many connections it had."""
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
    return len(connections)


def answering(answer: bytes) -> Serve:
    """A server that reads the head of a request, answers and hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await hang_up(writer)

    return serve


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
