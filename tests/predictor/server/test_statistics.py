"""`/v2/models/{model}/stats` after real requests."""

from collections import Counter
from typing import Any

import pytest

from tests.predictor.server.asking import LONG, body, message
from tests.predictor.serving import Predictor


def stats(server: Predictor, model: str) -> dict[str, Any]:
    reply = server.http.get(f"/v2/models/{model}/stats")
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


STAGES = ("queue", "compute_input", "compute_infer", "compute_output")


def counts(found: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Pictures by LoRA and what became of them, nanoseconds by LoRA and stage, requests by status."""
    counted: Counter[tuple[str, str]] = Counter()
    for model in found["model_stats"]:
        assert model["name"] == found["model_stats"][0]["name"]
        assert model["version"] == model["lora"].partition("@")[2]
        times, lora = model["inference_stats"], model["lora"]
        assert model["inference_count"] == times["success"]["count"]
        counted |= {(lora, f"{stage} ns"): times[stage]["ns"] for stage in ("success", *STAGES)}
        counted |= {(lora, stage): times[stage]["count"] for stage in ("success", "fail", *STAGES)}
    return counted | Counter({("requests", status): count for status, count in found["requests"].items()})


def test_pictures_are_counted_by_the_version_that_drew_them(server: Predictor) -> None:
    ask = "/v2/models/notoemoji@stable/infer"
    before = counts(stats(server, "notoemoji@stable"))
    assert server.http.post(ask, json=body("a", "b", steps=3)).status_code == 200
    server.grpc.ModelInfer(message("a", model="notoemoji@stable"))
    assert server.http.post(ask, json=body("a", lora="openmoji:0.5+notoemoji:0.5")).status_code == 200
    assert server.http.post(ask, json=body("a", steps=0)).status_code == 400
    assert server.http.post(ask, json=body("a", steps=LONG, timeout=0.1)).status_code == 504

    late = ("requests", "504")  # a reply may be here before it is counted
    server.wait_until(lambda: counts(stats(server, "notoemoji@stable"))[late] == before[late] + 1)
    new = counts(stats(server, "notoemoji@stable")) - before
    times = {key: new.pop(key) for key in list(new) if key[1].endswith("ns")}
    assert new == {
        **{("notoemoji@1", stage): 3 for stage in ("success", *STAGES)},
        **{("mix", stage): 1 for stage in ("success", *STAGES)},
        ("notoemoji@1", "fail"): 1,
        ("requests", "200"): 3,
        ("requests", "400"): 1,
        ("requests", "504"): 1,
    }
    stages = [times["notoemoji@1", f"{stage} ns"] for stage in STAGES]
    assert sum(stages) == pytest.approx(times["notoemoji@1", "success ns"], abs=20)
    assert times["notoemoji@1", "compute_infer ns"] > 0
    assert stats(server, "notoemoji/versions/1")["model_stats"] == stats(server, "notoemoji@1")["model_stats"]


def stepped(engine: dict[str, Any]) -> int:
    """Steps of pictures, together or apart: the engine decides what pays."""
    return sum(batch["batch_size"] * batch["compute_infer"]["count"] for batch in engine["batch_stats"])


def test_the_engine_is_the_same_under_every_name(server: Predictor) -> None:
    server.wait_for_rows(0, 0)
    before = stats(server, "emoji")["engine"]
    assert server.http.post("/v2/models/emoji/infer", json=body("a", "b", steps=3)).status_code == 200
    after = stats(server, "openmoji")["engine"]
    assert stepped(after) == stepped(before) + 2 * 3
    assert 3 <= after["execution_count"] - before["execution_count"] <= 2 * 3
    assert (after["queue"], after["active_rows"]) == ({"rows": 0, "age_ns": 0, "work_ns": 0}, 0)
    assert {(cost["kind"], cost["height"]) for cost in after["costs"]} >= {("step", 16), ("decode", 16)}
    assert after["loras"]["served"] >= 3
    # the server's batch holds two; whether the second joins the first is the engine's choice
    drawing = server.grpc.ModelInfer.future(message("a", "b", "c", steps=LONG))
    server.wait_until(lambda: server.gauge("emoji_active_rows") >= 1)
    now = stats(server, "emoji")["engine"]
    assert 1 <= now["active_rows"] <= 2
    assert now["active_rows"] + now["queue"]["rows"] == 3
    assert now["queue"]["age_ns"] > 0
    drawing.cancel()
    server.wait_for_rows(0, 0)


def test_a_name_that_is_not_there_has_none(server: Predictor) -> None:
    for path in ("stranger", "emoji/versions/9"):
        assert server.http.get(f"/v2/models/{path}/stats").status_code == 404
    assert "statistics" in server.http.get("/v2").json()["extensions"]


def test_it_is_documented(server: Predictor) -> None:
    schema = server.http.get("/openapi.json").json()
    get = schema["paths"]["/v2/models/{model_name}/stats"]["get"]
    reference = get["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
    described = schema["components"]["schemas"][reference.rpartition("/")[2]]
    assert (
        described["properties"].keys()
        == stats(server, "emoji").keys()
        == {*("model_stats", "requests", "engine")}
    )
    engine = schema["components"]["schemas"]["EngineStats"]["properties"]
    assert engine.keys() == stats(server, "emoji")["engine"].keys()
