import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout.metrics import Measured
from rollout.verdict import Limits, Pace, Verdict, decide, judge

LIMITS = Limits(max_error_rate=0.01, max_p95=2.0, min_requests=20)
GOOD = Measured(requests=100, errors=1, timed=100, p95=1.5)
NOTHING = Measured()


@pytest.mark.parametrize(
    ("new", "kind", "why"),
    [
        (GOOD, "good", "100 requests, 1 errors 5xx (1.0%), p95 1.50 s"),
        (Measured(100, 2, 100, 1.5), "bad", "error rate 2.0% > 1.0%"),
        (Measured(100, 0, 100, 2.5), "bad", "p95 2.50 s > 2.00 s"),
        (Measured(100, 0, 100, math.inf), "bad", "p95 inf s > 2.00 s"),
        (Measured(19, 19, 19, 9.0), "unknown", "19 of 20 requests seen"),
        (Measured(100, 0, 3, 9.0), "unknown", "3 of 20 requests timed"),
        (Measured(0, 0, 0, math.nan, restarts=1), "bad", "its predictor restarted 1 times (limit 0)"),
    ],
)
def test_absolute_limits(new, kind, why):
    verdict = judge(new, NOTHING, LIMITS)
    assert verdict.kind == kind
    assert why in verdict.why


def test_limits_relative_to_stable_hold_only_where_stable_had_requests():
    limits = Limits(max_error_rate=1, max_error_rate_over_stable=0.05, max_p95_times_stable=1.5)
    slow, failing = Measured(100, 0, 100, 4.0), Measured(100, 20, 100, 1.0)
    stable = Measured(100, 10, 100, 2.0)
    assert judge(slow, stable, limits) == Verdict(
        "bad", "p95 4.00 s > 3.00 s, from stable's 2.00 s (100 requests, 0 errors 5xx (0.0%), p95 4.00 s)"
    )
    assert "error rate 20.0% > 15.0%" in judge(failing, stable, limits).why
    assert judge(Measured(100, 15, 100, 3.0), stable, limits).kind == "good"
    for new in (slow, failing):
        assert judge(new, Measured(19, 0, 19, 0.1), limits).kind == "good"


def test_p95_does_not_matter_without_a_limit():
    assert judge(Measured(100, 0, 0, math.nan), NOTHING, Limits()).kind == "good"


@given(requests=st.integers(0, 1000), errors=st.floats(0, 1), p95=st.floats(0, 100), more=st.integers(1, 100))
def test_more_errors_never_make_it_better(requests, errors, p95, more):
    count = round(requests * errors)
    before = judge(Measured(requests, count, requests, p95), NOTHING, LIMITS).kind
    after = judge(Measured(requests + more, count + more, requests + more, p95), NOTHING, LIMITS).kind
    assert not (before == "bad" and after == "good")


PACE = Pace(every=60, max_wait=600)


@pytest.mark.parametrize(
    ("kind", "elapsed", "decision"),
    [
        ("bad", 0, "roll back"),
        ("bad", 1000, "roll back"),
        ("good", 59, "watch"),
        ("good", 60, "go on"),
        ("unknown", 59, "watch"),
        ("unknown", 599, "watch"),
        ("unknown", 600, "stop"),
    ],
)
def test_what_follows_from_a_verdict(kind, elapsed, decision):
    assert decide(Verdict(kind, "…"), elapsed, PACE) == decision


def test_a_step_is_watched_to_its_end_even_if_longer_than_the_wait():
    assert decide(Verdict("unknown", "…"), 59, Pace(every=60, max_wait=10)) == "watch"
