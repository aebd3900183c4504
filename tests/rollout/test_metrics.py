import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from rollout.metrics import Measured, Process, Reading, Watch, parse, quantile

BOUNDS = (0.1, 0.5, 1.0, 5.0)


class Predictor:
    """A process with the predictor's counters, as prometheus_client has them."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.requests = Counter("emoji_requests", "…", ["model", "status"], registry=self.registry)
        self.seconds = Histogram(
            "emoji_request_seconds", "…", ["model"], buckets=BOUNDS, registry=self.registry
        )

    def serve(self, status, seconds, model="emoji"):
        self.requests.labels(model=model, status=str(status)).inc()
        self.seconds.labels(model=model).observe(seconds)

    def reading(self):
        return parse(generate_latest(self.registry).decode())


def test_a_page_is_summed_over_models():
    predictor = Predictor()
    predictor.serve(200, 0.2)
    predictor.serve(200, 0.2, model="openmoji@1")
    predictor.serve(500, 2)
    reading = predictor.reading()
    assert reading.requests == {"200": 2, "500": 1}
    assert reading.buckets == {0.1: 0, 0.5: 2, 1.0: 2, 5.0: 3, math.inf: 3}


def test_a_page_without_the_counters_counts_nothing():
    assert parse("# HELP other Other\n# TYPE other counter\nother_total 3\n") == Reading()


@pytest.mark.parametrize("page", ["<html><body>no</body></html>", "emoji_requests_total{status=} x"])
def test_what_is_no_page_is_an_error(page):
    with pytest.raises(ValueError):  # noqa: PT011 - the parser's own words
        parse(page)


def test_only_what_was_counted_since_the_beginning_counts():
    predictor, watch = Predictor(), Watch()
    for _ in range(7):
        predictor.serve(500, 3)
    watch.add([Process("a", 0, predictor.reading())])
    predictor.serve(200, 0.3)
    watch.add([Process("a", 0, predictor.reading())])
    predictor.serve(404, 0.3)
    predictor.serve(503, 0.3)
    watch.add([Process("a", 0, predictor.reading())])
    measured = watch.measured()
    assert (measured.requests, measured.errors, measured.timed) == (3, 1, 3)
    assert 0.1 < measured.p95 <= 0.5


def test_a_restarted_process_begins_anew_and_its_restart_is_counted():
    first, second, watch = Predictor(), Predictor(), Watch()
    for _ in range(5):
        first.serve(200, 0.3)
    watch.add([Process("a", 2, first.reading())])
    first.serve(200, 0.3)
    watch.add([Process("a", 2, first.reading())])
    second.serve(500, 0.3)
    second.serve(200, 0.3)
    watch.add([Process("a", 3, second.reading())])
    assert watch.measured() == Measured(3, 1, 3, watch.measured().p95, 1)


def test_a_new_pod_counts_from_nothing_and_one_that_went_keeps_what_it_did():
    old, new, watch = Predictor(), Predictor(), Watch()
    watch.add([Process("old", 0, old.reading())])
    old.serve(200, 0.3)
    watch.add([Process("old", 0, old.reading())])
    new.serve(500, 0.3)
    watch.add([Process("new", 1, new.reading())])
    assert (watch.measured().requests, watch.measured().errors, watch.measured().restarts) == (2, 1, 1)


def test_a_pod_of_the_beginning_that_could_not_be_read_counts_from_its_first_reading():
    predictor, watch = Predictor(), Watch()
    predictor.serve(500, 0.3)
    watch.add([Process("a", 0, None)])
    watch.add([Process("a", 0, predictor.reading())])
    assert watch.measured().requests == 0
    watch.add([Process("a", 0, None)])
    predictor.serve(200, 0.3)
    watch.add([Process("a", 0, predictor.reading())])
    assert (watch.measured().requests, watch.measured().errors) == (1, 0)


served = st.tuples(st.sampled_from([200, 400, 429, 500, 503]), st.floats(0, 20))
acts = st.lists(
    st.one_of(
        st.tuples(st.just("serve"), st.integers(0, 2), served),
        st.tuples(st.just("read"), st.booleans(), st.none()),
        st.tuples(st.just("restart"), st.integers(0, 2), st.none()),
        st.tuples(st.just("replace"), st.integers(0, 2), st.none()),
    ),
    max_size=40,
)


@given(acts)
def test_every_request_that_was_read_counts_once(acts):
    pods = [[f"pod-{number}", 0, Predictor(), []] for number in range(3)]
    watch, expected, names = Watch(), [], len(pods)

    def read(readable=True):
        watch.add(
            Process(name, restarts, process.reading() if readable else None)
            for name, restarts, process, _ in pods
        )
        for pod in pods if readable else []:
            expected.extend(pod[3])
            pod[3] = []

    read()
    for act, which, what in acts:
        if act == "serve":
            pods[which][2].serve(*what)
            pods[which][3].append(what)
        elif act == "read":
            read(which)
        elif act == "restart":
            pods[which] = [pods[which][0], pods[which][1] + 1, Predictor(), []]
        else:
            pods[which] = [f"pod-{names}", 0, Predictor(), []]
            names += 1
    read()
    measured = watch.measured()
    assert measured.requests == measured.timed == len(expected)
    assert measured.errors == sum(status >= 500 for status, _ in expected)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(seconds, q):
    bounds = (*BOUNDS, math.inf)
    buckets = {bound: sum(value <= bound for value in seconds) for bound in bounds}
    true = np.quantile(seconds, q, method="inverted_cdf")
    upper = next(bound for bound in bounds if true <= bound)
    lower = max((bound for bound in BOUNDS if bound < upper), default=0.0)
    assert lower <= quantile(buckets, q) <= upper


def test_a_quantile_above_all_bounds_is_infinite_and_one_of_nothing_unknown():
    assert quantile({1.0: 0, math.inf: 4}, 0.95) == math.inf
    assert math.isnan(quantile({}, 0.95))
    assert math.isnan(quantile({1.0: 0, math.inf: 0}, 0.95))
