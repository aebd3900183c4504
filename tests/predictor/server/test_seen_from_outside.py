"""Counters and log lines."""

import json

import grpc
import httpx
import pytest

from tests.predictor.server.asking import LONG, body, counted, message
from tests.predictor.serving import Predictor


def test_pictures_are_counted_by_lora(server: Predictor) -> None:
    def count() -> float:
        return server.gauge(r'emoji_pictures_total\{lora="openmoji@1"\}')

    server.http.post("/v2/models/openmoji/infer", json=body("a"))
    before = count()
    server.http.post("/v2/models/openmoji/infer", json=body("a", "b"))
    assert count() == before + 2


def test_requests_are_counted_by_model_and_status_on_every_api(server: Predictor) -> None:
    def timed() -> float:
        return server.gauge(r'emoji_request_seconds_count\{model="openmoji"\}')

    ask = "/v2/models/openmoji/infer"
    assert server.http.post(ask, json=body("a")).status_code == 200
    before, times = counted(server), timed()
    assert server.http.post(ask, json=body("a")).status_code == 200
    assert server.http.post("/v1/models/openmoji:predict", json={"instances": ["a"]}).status_code == 200
    server.grpc.ModelInfer(message("a", model="openmoji"))
    assert server.http.post(ask, json=body("a", steps=0)).status_code == 400
    assert server.http.post("/v1/models/openmoji:predict", json={"instances": []}).status_code == 400
    for request in (message("a", model="openmoji", steps=0), message("a", model="openmoji", version="9")):
        with pytest.raises(grpc.RpcError):
            server.grpc.ModelInfer(request)
    assert server.http.post("/v2/models/stranger/infer", json=body("a")).status_code == 404
    assert server.http.post("/v2/repository/index").status_code == 200
    assert server.http.get("/v2/models/stranger").status_code == 404

    assert counted(server) - before == {
        ("openmoji", "200"): 3,
        ("openmoji", "400"): 3,
        ("unknown", "404"): 2,
    }
    assert timed() == times + 3
    assert "stranger" not in server.http.get("/metrics").text


def test_a_client_that_goes_away_is_counted(server: Predictor) -> None:
    before = counted(server)
    with pytest.raises(httpx.ReadTimeout):
        server.http.post("/v2/models/emoji/infer", json=body("a", steps=LONG), timeout=0.3)
    call = server.grpc.ModelInfer.future(message("a", steps=LONG))
    server.wait_for_rows(1, 0)
    call.cancel()
    server.wait_until(lambda: counted(server) - before == {("emoji", "499"): 2})


def test_a_request_has_one_log_line_without_its_prompt(server: Predictor) -> None:
    secret = "a secret"
    server.http.post("/v2/models/openmoji/infer", json=body(secret, "b"), headers={"x-request-id": "good"})
    server.http.post("/v2/models/emoji/infer", json=body(secret, steps=0), headers={"x-request-id": "bad"})
    server.grpc.ModelInfer(message(secret), metadata=(("x-request-id", "call"),))
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    good, bad, call = (
        [line for line in lines if line.get("request_id") == name] for name in ("good", "bad", "call")
    )
    assert [len(good), len(bad), len(call)] == [1, 1, 1]
    wanted = {"message": "request done", "model": "openmoji", "lora": "openmoji@1", "rows": 2, "steps": 2}
    assert wanted.items() <= good[0].items()
    assert good[0]["status"] == 200
    assert good[0]["ms"] > 0
    assert (bad[0]["status"], bad[0]["model"]) == (400, "emoji")
    assert bad[0]["error"].startswith("num_inference_steps: ")
    assert (call[0]["status"], call[0]["protocol"]) == ("OK", "grpc")
    assert secret not in server.log
