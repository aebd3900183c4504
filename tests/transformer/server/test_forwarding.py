"""What of a caller reaches the predictor: ids, keys, deadlines, tenant, and that it went away."""

import socket

import grpc
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from tests.transformer.server.asking import body, message, over_http, post
from tests.transformer.serving import Process, calls, wait_until


def test_request_ids_and_traces_reach_the_predictor(either: Process, small_predictor: Process) -> None:
    prompt = f"trace {either.http_port}"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"x-request-id": "mine", "traceparent": trace}
    assert (
        post(either, "/v2/models/emoji/infer", body(prompt), headers=headers).headers["x-request-id"]
        == "mine"
    )
    assert (post(either, "/v2/models/emoji/infer", body(prompt))).status_code == 200
    first, second = (call["headers"] for call in calls(small_predictor, prompt))
    assert (first["x-request-id"], first["traceparent"]) == ("mine", trace)
    assert len(second["x-request-id"]) == 36


def test_a_sticky_key_reaches_the_predictor(either: Process, small_predictor: Process) -> None:
    prompt = f"sticky {either.http_port}"
    headers = {"X-Sticky-Key": "사용자 7".encode()}
    assert post(either, "/v2/models/emoji/infer", body(prompt), headers=headers).status_code == 200
    old = {"prompt": prompt, "model": "emoji"}
    assert post(either, "/eng_submit", old, headers=headers).status_code == 200
    with grpc.insecure_channel(f"127.0.0.1:{either.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ModelInfer(message(prompt), metadata=(("x-sticky-key", "user 7"),), timeout=30)
    rows = [call["rows"][0] for call in calls(small_predictor, prompt)]
    assert [row["sticky_key"] for row in rows] == ["사용자 7", "사용자 7", "user 7"]


def test_a_grpc_calls_deadline_reaches_the_predictor(either: Process, small_predictor: Process) -> None:
    prompt = f"deadline {either.http_port}"
    with grpc.insecure_channel(f"127.0.0.1:{either.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        for timeout, terms in ((30, {}), (None, {}), (30, {"timeout": "3600"}), (30, {"timeout_ms": 20_000})):
            stub.ModelInfer(message(prompt, **terms), timeout=timeout)
    first, none, longer, shorter = (call["rows"][0].get("timeout") for call in calls(small_predictor, prompt))
    assert none is None
    assert 0 < first < 31  # gRPC rounds
    assert 0 < longer < 31
    assert 0 < shorter < 20


def test_timeout_priority_and_tenant_reach_the_predictor(either: Process, small_predictor: Process) -> None:
    prompt = f"terms {either.http_port}"
    given = body(prompt, parameters={"timeout": 20.5, "timeout_ms": 30_000, "priority": 2})
    headers = {"X-Tenant": "acme"}
    assert post(either, "/v2/models/emoji/infer", given, headers=headers).status_code == 200
    v1 = {"instances": [prompt], "parameters": {"timeout_ms": 20_500, "priority": 2}}
    assert post(either, "/v1/models/emoji:predict", v1, headers=headers).status_code == 200
    request = message(prompt, timeout="20.5", priority=2)
    with grpc.insecure_channel(f"127.0.0.1:{either.grpc_port}") as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request, metadata=(("x-tenant", "acme"),), timeout=30)
    found = calls(small_predictor, prompt)
    assert [call["rows"][0]["priority"] for call in found] == [2] * 3
    assert all(0 < call["rows"][0]["timeout"] < 20.5 for call in found)  # what is left of it
    assert [call["headers"]["x-tenant"] for call in found] == ["acme"] * 3
    odd = post(either, "/v2/models/emoji/infer", given, headers={"X-Tenant": "a" * 129})
    assert (odd.status_code, "X-Tenant" in odd.json()["error"]) == (400, True)


def test_a_rest_client_that_goes_away_stops_the_drawing(either: Process, small_predictor: Process) -> None:
    prompt = f"sleep 25.{either.http_port}"
    with socket.create_connection(("127.0.0.1", either.http_port)) as client:
        client.sendall(over_http(prompt))
        wait_until(lambda: len(calls(small_predictor, prompt)) == 1)
    wait_until(lambda: calls(small_predictor, prompt)[0]["end"] == "CancelledError")


def test_a_grpc_client_that_goes_away_stops_the_drawing(either: Process, small_predictor: Process) -> None:
    prompt = f"sleep 26.{either.http_port}"
    with grpc.insecure_channel(f"127.0.0.1:{either.grpc_port}") as channel:
        call = GRPCInferenceServiceStub(channel).ModelInfer.future(message(prompt))
        wait_until(lambda: len(calls(small_predictor, prompt)) == 1)
        call.cancel()
    wait_until(lambda: calls(small_predictor, prompt)[0]["end"] == "CancelledError")
