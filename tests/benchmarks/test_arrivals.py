"""Arrivals and jobs: alike for the same seed, and of the distribution they claim."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.arrivals import poisson
from benchmarks.jobs import mixes

LORAS = ["notoemoji@1", "openmoji@1", "notoemoji@2", "openmoji@2"]
MIXES = mixes(LORAS, (8, 20, 50))
SEEDS = st.integers(0, 10_000)


@settings(deadline=None)
@given(st.floats(0.01, 1000), st.integers(0, 50), SEEDS)
def test_arrivals_ascend_and_are_the_same_for_the_same_seed(rate, count, seed):
    times = poisson(rate, count, seed)
    assert times == poisson(rate, count, seed)
    assert len(times) == count
    assert all(0 <= one <= other for one, other in pairwise(times))


@settings(deadline=None)
@given(st.floats(0.01, 1000), st.integers(1, 50), SEEDS)
def test_the_rate_only_stretches_a_schedule(rate, count, seed):
    assert poisson(rate, count, seed) == pytest.approx([time / rate for time in poisson(1.0, count, seed)])


@settings(deadline=None)
@given(SEEDS)
def test_a_longer_schedule_begins_like_a_shorter_one(seed):
    assert poisson(2.0, 30, seed)[:10] == poisson(2.0, 10, seed)


def test_gaps_are_exponential():
    gaps = [late - early for early, late in pairwise([0.0, *poisson(4.0, 20_000, 1)])]
    mean = sum(gaps) / len(gaps)
    assert mean == pytest.approx(0.25, rel=0.03)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance**0.5 == pytest.approx(mean, rel=0.05)
    assert sum(gap > 0.25 for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.02)


@pytest.mark.parametrize("rate", [0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        poisson(rate, 1, 1)


@settings(deadline=None)
@given(st.sampled_from(sorted(MIXES)), st.integers(0, 60), SEEDS)
def test_jobs_are_the_same_for_the_same_seed_and_no_two_are_identical(name, count, seed):
    jobs = MIXES[name].jobs(count, seed)
    assert jobs == MIXES[name].jobs(count, seed)
    assert len(set(jobs)) == count
    assert not {job.seed for job in jobs} & {job.seed for job in MIXES[name].jobs(count, seed + 1)}


@settings(deadline=None)
@given(SEEDS)
def test_a_few_jobs_of_a_mix_are_like_many(seed):
    mixed = MIXES["mixed"].jobs(36, seed)
    for dealt in (mixed[:9], mixed[9:18], mixed[27:]):
        assert {(job.steps, job.guidance) for job in dealt} == set(MIXES["mixed"].classes())
    for dealt in (mixed[:4], mixed[32:]):
        assert {job.lora for job in dealt} == set(LORAS)


def test_a_mix_has_all_its_jobs_in_no_fixed_order():
    mixed = MIXES["mixed"].jobs(2000, 1)
    kinds = {(job.steps, job.guidance, job.lora) for job in mixed}
    assert len(kinds) == 3 * 3 * len(LORAS)
    assert len({tuple(job.steps for job in mixed[at : at + 9]) for at in range(0, 900, 9)}) > 50
    assert {(job.steps, job.guidance, job.lora) for job in MIXES["homogeneous"].jobs(50, 1)} == {
        (20, 2.0, "notoemoji@1")
    }


def test_a_quarter_of_the_jobs_among_long_ones_is_short():
    jobs = MIXES["short among long"].jobs(4000, 1)
    assert {job.steps for job in jobs} == {8, 50}
    assert sum(job.steps == 8 for job in jobs) / len(jobs) == pytest.approx(0.25, abs=0.03)


def test_guidance_doubles_a_jobs_rows():
    for job in MIXES["mixed"].jobs(50, 1):
        assert job.unet_rows == job.steps * (1 if job.guidance == 1.0 else 2)
