"""The statistics of the benchmarks, each against what it means."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import estimates
from benchmarks.estimates import Estimate, StepCost

POSITIVE = st.floats(1e-3, 1e3)
VALUES = st.lists(POSITIVE, min_size=1, max_size=30)


def median(values: list[float], seed: int = 0) -> Estimate:
    return estimates.pooled([[value] for value in values], 0.5, seed)


@settings(deadline=None)
@given(VALUES, st.floats(0, 1))
def test_a_percentile_has_its_share_of_the_values_below_it(values, share):
    found = estimates.percentile(values, share)
    slack = 1e-9 * found
    assert sum(value <= found + slack for value in values) >= math.floor(share * (len(values) - 1)) + 1
    assert sum(value >= found - slack for value in values) >= len(values) - math.ceil(
        share * (len(values) - 1)
    )


@settings(deadline=None)
@given(VALUES, st.floats(0, 1), st.floats(0, 1))
def test_percentiles_ascend(values, one, other):
    low, high = sorted([one, other])
    assert estimates.percentile(values, low) <= estimates.percentile(values, high) * (1 + 1e-12)


def test_a_percentile_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no values"):
        estimates.percentile([], 0.5)


@settings(deadline=None)
@given(VALUES)
def test_a_median_lies_in_its_interval_and_the_interval_in_the_values(values):
    found = median(values)
    assert min(values) <= found.low <= found.high <= max(values)
    assert found.low <= found.value <= found.high
    assert found.value == pytest.approx(np.median(values))


@settings(deadline=None)
@given(VALUES, st.integers(0, 1000))
def test_an_interval_is_the_same_for_the_same_seed(values, seed):
    assert median(values, seed) == median(values, seed)


def test_an_interval_holds_the_true_median_about_as_often_as_it_says():
    source = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        found = median(source.normal(10, 1, 25), seed)
        held += found.low <= 10 <= found.high
    assert 0.88 <= held / 200 <= 1


def test_more_values_make_a_narrower_interval():
    source = np.random.default_rng(2)
    few, many = (median(source.normal(10, 1, count)) for count in (8, 512))
    assert many.high - many.low < (few.high - few.low) / 2


def test_a_ratio_needs_pairs():
    with pytest.raises(ValueError, match="equally many"):
        estimates.pooled_ratio([[1.0], [2.0]], [[1.0]], 0.5)
    with pytest.raises(ValueError, match="no values"):
        estimates.pooled_ratio([], [], 0.5)


@settings(deadline=None)
@given(st.lists(st.tuples(st.one_of(POSITIVE, st.just(math.inf)), POSITIVE)), POSITIVE)
def test_goodput_counts_what_came_in_time(replies, seconds):
    good = [took for took, limit in replies if took <= limit]
    found = estimates.goodput([took for took, _ in replies], [limit for _, limit in replies], seconds)
    assert found == pytest.approx(len(good) / seconds)


def test_a_failure_is_never_good():
    assert estimates.goodput([math.inf], [1e9], 1.0) == 0


@settings(deadline=None)
@given(POSITIVE, POSITIVE, st.sets(st.integers(1, 64), min_size=2, max_size=8))
def test_a_line_is_found_again(a, b, rows):
    rows = sorted(rows)
    cost = StepCost.fit(rows, [a * row + b for row in rows])
    assert cost.a == pytest.approx(a, rel=1e-6, abs=1e-6 * b)
    assert cost.b == pytest.approx(b, rel=1e-6, abs=1e-6 * a * max(rows))


def test_a_line_is_not_bent_by_an_outlier():
    rows = [1, 2, 4, 8, 16, 32]
    seconds = [2.0 * row + 10 for row in rows]
    seconds[2] += 1000
    cost = StepCost.fit(rows, seconds)
    assert cost.a == pytest.approx(2)
    assert cost.b == pytest.approx(10)


def test_a_line_needs_two_sizes():
    with pytest.raises(ValueError, match="two sizes"):
        StepCost.fit([4, 4], [1.0, 2.0])


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=5), st.floats(0, 1))
def test_a_percentile_of_groups_is_that_of_all_their_values(groups, share):
    found = estimates.pooled(groups, share)
    together = [value for group in groups for value in group]
    assert found.value == pytest.approx(estimates.percentile(together, share))
    assert min(together) <= found.low <= found.high <= max(together)


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=5), POSITIVE, st.floats(0, 1))
def test_a_ratio_of_groups_does_not_see_what_slowed_both(groups, factor, share):
    slower = [[factor * value for value in group] for group in groups]
    found = estimates.pooled_ratio(slower, groups, share)
    assert (found.value, found.low, found.high) == pytest.approx((factor, factor, factor))


def test_groups_are_drawn_whole():
    """Values of one run are alike: many of them say no more of other runs than one does."""
    few, many = ([[value] * count for value in (1.0, 2.0, 3.0, 4.0, 5.0)] for count in (1, 100))
    assert estimates.pooled(many, 0.5) == estimates.pooled(few, 0.5)


def test_an_empty_group_is_refused():
    with pytest.raises(ValueError, match="no values"):
        estimates.pooled([[1.0], []], 0.5)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 2)), min_size=1, max_size=20),
    st.integers(1, 8),
    POSITIVE,
    POSITIVE,
    st.randoms(use_true_random=False),
)
def test_no_order_of_the_steps_beats_the_least_time(pictures, size, a, b, source):
    """Any schedule: before each step some of the pictures that are left are chosen, up to a full batch."""
    cost = StepCost(a, b)
    least = cost.least_seconds([(steps, steps * rows) for steps, rows in pictures], size)
    left = dict(enumerate(steps for steps, _ in pictures))
    seconds = 0.0
    while left:
        chosen = source.sample(sorted(left), source.randint(1, min(size, len(left))))
        seconds += a * sum(pictures[place][1] for place in chosen) + b
        for place in chosen:
            left[place] -= 1
            if not left[place]:
                del left[place]
    assert least <= seconds * (1 + 1e-9)


def test_the_least_time_is_that_of_full_steps():
    assert StepCost(2.0, 10.0).least_seconds([(5, 10)] * 8, 4) == 2.0 * 80 + 10.0 * 10
    assert StepCost(2.0, 10.0).least_seconds([(50, 50), (1, 1)], 4) == 2.0 * 51 + 10.0 * 50
