"""Costs learned in a slow moment: a row refused by them tries them out now and then."""

import asyncio
from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.admission import BatchLimits
from predictor.engine.batch import DOUBT_AFTER_S
from predictor.engine.cost_model import Line
from predictor.engine.terms import Terms
from tests.predictor.engine.recorder import make_row
from tests.predictor.engine.virtual_time import DECODE, World, simulate, step_lines


@settings(deadline=None)
@given(
    line=step_lines,
    slow=st.tuples(st.floats(0.5, 1000), st.floats(0.5, 1000)),
    asked=st.lists(
        st.tuples(
            st.floats(0, 30),  # seconds after the one before
            st.integers(1, 12),
            st.sampled_from([1.0, 2.0]),
            st.sampled_from([16, 32]),
            st.floats(1.01, 3),  # its timeout, by what it takes with a trial before it
        ),
        min_size=1,
        max_size=6,
    ),
)
def test_an_idle_engine_unlearns_the_costs_of_a_slow_moment(line, slow, asked):
    """Each comes when those before have ended, and would be refused by what was learned then."""
    now, requests = 0.0, []
    for number, (gap, steps, guidance, size, patience) in enumerate(asked):
        row = make_row(seed=number, steps=steps, guidance=guidance, height=size, width=size)
        step, decode = (
            known(2 if known is line and guidance > 1 else 1) * size / 16 for known in (line, DECODE)
        )
        timeout = patience * ((steps + 1) * step + 2 * decode)
        now += gap + timeout
        requests.append((now, [row], Terms(timeout)))
        now += timeout
    world = World(line)
    for request in asyncio.run(simulate(world, requests, BatchLimits(4), slow=slow)):
        assert request.reply.done()
        assert request.reply.result()[0, 0, 0, 0] == request.rows[0].seed


def test_the_outer_layers_costs_of_a_slow_moment_are_unlearned_too():
    world = World(Line(0.1, 0.2), Line(0.01, 0.02))
    row = make_row(steps=10, guidance=1.0, inner_every=5)
    timeout = 1.05 * (3 * 0.3 + 9 * 0.03 + 2 * DECODE(1))
    [request] = asyncio.run(
        simulate(world, [(50.0, [row], Terms(timeout))], BatchLimits(4), slow=(100.0, 1.0))
    )
    assert request.reply.result()[0, 0, 0, 0] == row.seed


def test_a_slow_moments_price_of_pictures_is_unlearned_by_a_row_of_the_tiny_vae():
    world = World(Line(0.1, 0.2))
    row = make_row(steps=2, guidance=1.0, tiny_vae=True)
    request = (50.0, [row], Terms(1.05 * (3 * 0.3 + 2 * DECODE(1))))
    [request] = asyncio.run(simulate(world, [request], BatchLimits(4), slow=(1.0, 100.0)))
    assert request.reply.result()[0, 0, 0, 0] == row.seed
    assert len(world.decoded) == 2


@settings(deadline=None, max_examples=30)
@given(line=step_lines, steps=st.integers(1, 12), gaps=st.lists(st.floats(0, 30), min_size=1, max_size=8))
def test_what_is_rightly_refused_costs_a_trial_now_and_then(line, steps, gaps):
    arrivals = list(accumulate(gaps))
    timeout = 0.9 * (steps * line(1) + DECODE(1))
    asked = [
        (arrived, [make_row(seed=number, steps=steps, guidance=1.0)], Terms(timeout))
        for number, arrived in enumerate(arrivals)
    ]
    world = World(line)
    requests = asyncio.run(simulate(world, asked, BatchLimits(4)))
    assert all(request.reply.cancelled() or request.reply.exception() for request in requests)
    assert world.ended.keys() <= {batch[0] for batch in world.batches}  # trials
    assert len(world.batches) <= 1 + (arrivals[-1] + world.now - arrivals[0]) / DOUBT_AFTER_S
