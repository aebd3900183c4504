"""What REST answers while the server starts, and while it stops."""

import asyncio

import httpx

from predictor.edge.gate import Gate
from predictor.edge.rest import rest_app
from tests.predictor.edge.failing import API, dataplane


def test_a_server_that_starts_answers_not_ready() -> None:
    plane = dataplane(RuntimeError())
    plane.started = False

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(Gate(rest_app(plane, API, docs=False), max_body_bytes=1000))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return [
                await client.get("/v2/health/live"),
                await client.get("/docs"),
                await client.get("/v2/health/ready"),
                await client.get("/v2/models/emoji/ready"),
                await client.post("/v2/models/emoji/infer", json={"inputs": []}),
            ]

    assert [reply.status_code for reply in asyncio.run(ask())] == [200, 404, 503, 503, 503]


def test_a_server_that_stops_sends_its_clients_elsewhere_and_still_answers() -> None:
    plane = dataplane(RuntimeError())
    app = Gate(rest_app(plane, API, docs=False), 1000, lambda: plane.draining)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.get("/v2/health/live")

    assert "connection" not in asyncio.run(ask()).headers
    plane.draining = True
    reply = asyncio.run(ask())
    assert (reply.status_code, reply.headers["connection"]) == (200, "close")
