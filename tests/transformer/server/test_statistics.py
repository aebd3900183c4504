"""The transformer's own statistics: translating, waiting for the predictor, encoding."""

import httpx

from tests.metric_rules import check, families
from tests.transformer.server.asking import body, get, post
from tests.transformer.serving import Process


def test_pictures_are_counted_with_the_times_of_this_process(either: Process) -> None:
    """Under `openmoji`, which other tests may have asked for."""

    def stats() -> dict[tuple[str, str], dict[str, dict[str, int]]]:
        found = get(either, "/v2/models/openmoji/stats").json()["model_stats"]
        return {(model["version"], model["lora"]): model["inference_stats"] for model in found}

    def count(lora: str, stage: str) -> int:
        version = lora.partition("@")[2]
        return stats().get((version, lora), {}).get(stage, {"count": 0})["count"]

    wanted = ("success", "compute_input", "compute_infer", "compute_output")
    before = {stage: count("openmoji@1", stage) for stage in wanted}
    failed = count("", "fail")
    assert post(either, "/v2/models/openmoji/infer", body("빨간 사과", "a cat")).status_code == 200
    old = {"model": "openmoji", "prompt": "a red apple", "num_inference_steps": 2}
    assert post(either, "/eng_submit", old).status_code == 200
    assert post(either, "/v2/models/openmoji/infer", body("fail")).status_code == 502
    assert post(either, "/v2/models/openmoji/infer", body("queue full")).status_code == 429
    for stage in wanted:
        assert count("openmoji@1", stage) == before[stage] + 3, stage
    assert count("", "fail") == failed + 1
    times = stats()["1", "openmoji@1"]
    assert times["queue"] == {"count": 0, "ns": 0}
    spent = sum(times[stage]["ns"] for stage in wanted[1:])
    assert abs(spent - times["success"]["ns"]) <= 10 * times["success"]["count"]


def test_requests_are_there_by_status_and_strangers_are_unknown(either: Process) -> None:
    before = get(either, "/v2/models/notoemoji@1/stats").json()["requests"]
    assert post(either, "/v2/models/notoemoji@1/infer", body("a cat")).status_code == 200
    after = get(either, "/v2/models/notoemoji/versions/1/stats").json()["requests"]
    assert after == before | {"200": before.get("200", 0) + 1}
    assert get(either, "/v2/models/stranger/stats").status_code == 404


def test_it_is_documented(transformer: Process) -> None:
    schema = httpx.get(f"{transformer.url}/openapi.json", trust_env=False).json()
    properties = schema["components"]["schemas"]["StatsReply"]["properties"]
    assert properties.keys() == {"model_stats", "requests"}


def test_its_metrics_are_named_as_prometheus_has_them_and_count_its_work(transformer: Process) -> None:
    def value(name: str) -> float:
        (found,) = (
            sample.value
            for family in families(get(transformer, "/metrics").text).values()
            for sample in family.samples
            if sample.name == name
        )
        return found

    names = ("emoji_translation_seconds", "emoji_predictor_wait_seconds", "emoji_picture_encoding_seconds")
    before = [value(f"{name}_count") for name in names]
    hits, misses = (value(f"emoji_translation_cache_{kind}_total") for kind in ("hits", "misses"))
    for _ in range(2):
        assert post(transformer, "/v2/models/emoji/infer", body("보라색 문어")).status_code == 200
    assert post(transformer, "/v2/models/emoji/infer", body("fail")).status_code == 502
    assert [value(f"{name}_count") for name in names] == [count + 2 for count in before]
    assert value("emoji_translation_cache_misses_total") == misses + 1
    assert value("emoji_translation_cache_hits_total") == hits + 1
    found = families(get(transformer, "/metrics").text)
    assert len(found) == 7
    for family in found.values():
        check(family)
