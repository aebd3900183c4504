"""Full queues, timeouts, clients that go away, many at once."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest

from tests.predictor.server.asking import LONG, body, drawn, message
from tests.predictor.serving import Predictor


def test_a_full_queue_says_when_to_come_back_and_leaving_clients_free_their_rows(server: Predictor) -> None:
    async def scenario() -> tuple[httpx.Response, Any]:
        async with httpx.AsyncClient(base_url=server.url, timeout=120) as client:
            asked = []
            for prompts, queued in (("ab", 0), ("abcd", 4)):
                request = client.post("/v2/models/emoji/infer", json=body(*prompts, steps=LONG))
                asked.append(asyncio.create_task(request))
                await asyncio.to_thread(server.wait_for_rows, 2, queued)
            refused = await client.post("/v2/models/emoji/infer", json=body("a"))
            with pytest.raises(grpc.RpcError) as caught:
                await asyncio.to_thread(server.grpc.ModelInfer, message("a"))
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return refused, caught.value

    refused, error = asyncio.run(scenario())
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 3600
    assert "queue is full" in refused.json()["error"]
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 1 <= int(dict(error.trailing_metadata())["retry-after"]) <= 3600
    server.wait_for_rows(0, 0)
    assert server.http.post("/v2/models/emoji/infer", json=body("a")).status_code == 200


def test_a_cancelled_or_late_grpc_call_frees_its_rows(server: Predictor) -> None:
    call = server.grpc.ModelInfer.future(message("a", steps=LONG))
    server.wait_for_rows(1, 0)
    call.cancel()
    server.wait_for_rows(0, 0)
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(message("a", steps=LONG), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    server.wait_for_rows(0, 0)


def test_a_timeout_ends_a_request_and_frees_its_rows_on_every_api(server: Predictor) -> None:
    asked = body("a", "b", steps=LONG, timeout=0.3, priority=1)
    v1 = {"instances": ["a"], "parameters": {"num_inference_steps": LONG, "timeout": 0.3, "priority": -3}}
    for path, request in (("/v2/models/emoji/infer", asked), ("/v1/models/emoji:predict", v1)):
        reply = server.http.post(path, json=request, headers={"X-Tenant": "acme"})
        assert (reply.status_code, "done within 0.3 s" in reply.json()["error"]) == (504, True), reply.text
        server.wait_for_rows(0, 0)
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(message("a", steps=LONG, timeout=0.3), metadata=(("x-tenant", "acme"),))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "done within 0.3 s" in caught.value.details()
    server.wait_for_rows(0, 0)


def test_a_tenants_name_must_be_fit_for_a_header(server: Predictor) -> None:
    name = "a" * 129
    reply = server.http.post("/v2/models/emoji/infer", json=body("a"), headers={"X-Tenant": name})
    assert (reply.status_code, "X-Tenant" in reply.json()["error"]) == (400, True)
    with pytest.raises(grpc.RpcError) as caught:
        server.grpc.ModelInfer(message("a"), metadata=(("x-tenant", name),))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_many_at_once_are_all_served(server: Predictor) -> None:
    def ask(number: int) -> int:
        reply = httpx.post(f"{server.url}/v2/models/emoji/infer", json=body("a", seed=number), timeout=120)
        return reply.status_code if reply.status_code != 200 else drawn(reply)["seed"][0]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(12))) == list(range(12))
