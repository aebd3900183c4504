"""The page at /metrics after real requests: names and units as Prometheus has them, values as was asked."""

import sys
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics

from tests.metric_rules import check, families, ours
from tests.predictor.server.asking import LONG, body, message
from tests.predictor.serving import Predictor


def page(server: Predictor) -> dict[str, Metric]:
    return families(server.http.get("/metrics").text)


class Change:
    """What requests have changed on the page."""

    def __init__(self, server: Predictor) -> None:
        self._server = server
        self._before = self._samples()

    def _samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in page(self._server).values()
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        key = name, frozenset(labels.items())
        return self._samples().get(key, 0.0) - self._before.get(key, 0.0)


@pytest.fixture
def drawn(server: Predictor) -> dict[str, Metric]:
    """The page once all kinds of metrics have values."""
    mix = body("a", lora="notoemoji:0.5+openmoji:0.5")
    assert server.http.post("/v2/models/emoji/infer", json=mix).status_code == 200
    late = body("a", steps=LONG, timeout=0.1)
    assert server.http.post("/v2/models/emoji/infer", json=late).status_code == 504
    return page(server)


def test_garbage_is_collected_while_it_serves(server: Predictor) -> None:
    def collections() -> float:
        lines = server.http.get("/metrics").text.splitlines()
        (line,) = [each for each in lines if each.startswith('python_gc_collections_total{generation="0"}')]
        return float(line.split()[-1])

    before = collections()
    server.wait_until(lambda: collections() > before)


def test_names_and_units_are_as_prometheus_has_them(drawn: dict[str, Metric]) -> None:
    """The rules of `promtool check metrics`, and base units."""
    assert len(drawn) > 20
    for family in drawn.values():
        check(family)


def test_the_page_is_openmetrics_where_that_is_asked_for(server: Predictor) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    reply = server.http.get("/metrics", headers=accept)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(reply.text) if ours(family)}
    assert names == set(page(server))


def test_buckets_hold_what_is_measured(server: Predictor, drawn: dict[str, Metric]) -> None:
    """Neither all below the first bound nor above the last."""
    for name in ("emoji_step_seconds", "emoji_step_rows", "emoji_join_wait_seconds", "emoji_request_seconds"):
        buckets: dict[float, float] = {}
        for sample in drawn[name].samples:
            if sample.name.endswith("_bucket"):
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0) + sample.value
        bounds = sorted(buckets)
        assert bounds == sorted(set(bounds))
        assert buckets[bounds[-2]] == buckets[bounds[-1]] > 0, f"{name}: beyond the last bound"


def test_pictures_calls_and_waits_are_those_of_the_requests(server: Predictor) -> None:
    ask = "/v2/models/openmoji/infer"
    change = Change(server)
    prompts = ("unseen", "unseen 2")
    for seed in (1, 2):  # the batch holds two
        assert server.http.post(ask, json=body(*prompts, steps=3, seed=seed)).status_code == 200
    assert server.http.post(ask, json=body(prompts[0], prompts[0], steps=4, seed=3)).status_code == 200
    assert server.http.post(ask, json=body("a", steps=0)).status_code == 400

    assert change("emoji_requests_total", model="openmoji", status="200") == 3
    assert change("emoji_requests_total", model="openmoji", status="400") == 1
    assert change("emoji_request_seconds_count", model="openmoji") == 3
    assert change("emoji_pictures_total", lora="openmoji@1") == 6
    assert change("emoji_shared_pictures_total") == 1
    assert change("emoji_prompt_cache_misses_total") == 2
    assert change("emoji_prompt_cache_hits_total") == 3  # the shared one looked nothing up
    assert change("emoji_join_wait_seconds_count") == 6
    assert change("emoji_encode_seconds_count") == 1
    steps = change("emoji_step_seconds_count")
    assert steps == change("emoji_step_rows_count")
    assert change("emoji_step_rows_sum") == 2 * (3 + 3) + 4
    # On a busy machine the engine may find that a second row doesn't pay, and step the two apart.
    apart = steps - (3 + 3 + 4)
    assert 0 <= apart <= 3 + 3
    assert change("emoji_step_rows_bucket", le="1.0") == 4 + 2 * apart
    assert 3 <= change("emoji_decode_seconds_count") <= 5
    busy = sum(change(f"emoji_{call}_seconds_sum") for call in ("encode", "step", "decode"))
    assert 0 < busy < change("emoji_request_seconds_sum", model="openmoji")


def test_the_queue_is_seen_while_it_waits(server: Predictor) -> None:
    names = ("emoji_queue_rows", "emoji_queue_age_seconds", "emoji_queue_work_seconds", "emoji_active_rows")
    server.wait_for_rows(0, 0)
    assert [server.gauge(name) for name in names] == [0, 0, 0, 0]
    drawing = server.grpc.ModelInfer.future(message("a", "b", steps=LONG))
    server.wait_for_rows(2, 0)
    waiting = server.grpc.ModelInfer.future(message("a", "b", "c", steps=LONG))
    server.wait_for_rows(2, 3)
    server.wait_until(lambda: server.gauge("emoji_queue_age_seconds") > 0.05)
    assert server.gauge("emoji_queue_work_seconds") > 0
    for call in (drawing, waiting):
        call.cancel()
    server.wait_until(lambda: [server.gauge(name) for name in names] == [0, 0, 0, 0])


def test_learned_costs_are_told_by_call_and_size(server: Predictor) -> None:
    for size in (16, 24):
        assert server.http.post("/v2/models/emoji/infer", json=body("a", height=size)).status_code == 200
    families = page(server)

    def cost(name: str) -> dict[tuple[str, str], float]:
        samples = families[name].samples
        return {(sample.labels["kind"], sample.labels["size"]): sample.value for sample in samples}

    rows, calls = cost("emoji_cost_row_seconds"), cost("emoji_cost_call_seconds")
    wanted: set[Any] = {(call, size) for call in ("step", "decode") for size in ("16x16", "24x16")}
    assert wanted <= rows.keys() == calls.keys()
    assert all(rows[key] >= 0 and calls[key] >= 0 and rows[key] + calls[key] > 0 for key in rows)


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_the_memory_of_the_process_is_told(server: Predictor) -> None:
    assert 50e6 < server.gauge("process_resident_memory_bytes") < 50e9
