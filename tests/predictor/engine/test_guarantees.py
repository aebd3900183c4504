"""What holds whatever is asked: none is lost, none starves, maxima, deadlines and order are kept."""

import asyncio
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.admission import BatchLimits
from predictor.engine.cost_model import Line
from predictor.engine.terms import Terms
from predictor.errors import DeadlineExceeded
from tests.predictor.engine.recorder import make_row
from tests.predictor.engine.virtual_time import World, simulate, step_lines

asked = st.lists(
    st.tuples(
        st.floats(0, 20),  # arrival
        st.lists(
            st.tuples(st.integers(1, 12), st.sampled_from([1.0, 2.0]), st.integers(1, 3)),
            min_size=1,
            max_size=3,
        ),
        st.sampled_from([16, 16, 32]),
        st.sampled_from("ab"),
        st.integers(-1, 1),
        st.one_of(st.none(), st.floats(0.1, 30)),
    ),
    max_size=15,
)


def made(asked):
    """Requests with rows of different seeds."""
    numbers = iter(range(1000))
    return [
        (
            arrived,
            [
                make_row(
                    seed=next(numbers),
                    steps=steps,
                    guidance=guidance,
                    height=size,
                    width=size,
                    inner_every=every,
                )
                for steps, guidance, every in rows
            ],
            Terms(timeout, priority, tenant),
        )
        for arrived, rows, size, tenant, priority, timeout in asked
    ]


def is_trial(world, request, row):
    """Whether it was refused, after one step of each kind that told that this was right."""
    refused = not request.reply.cancelled() and isinstance(request.reply.exception(), DeadlineExceeded)
    return refused and sum(batch.count(row.seed) for batch in world.batches) <= min(2, row.inner_every)


@settings(deadline=None)
@given(asked=asked, line=step_lines, most=st.integers(1, 6), max_latency=st.sampled_from([math.inf, 3.0]))
def test_none_lost_none_over_the_maximum_deadlines_kept_order_kept(asked, line, most, max_latency):
    world, asked = World(line), made(asked)
    requests = asyncio.run(simulate(world, asked, BatchLimits(most, max_latency)))
    assert len(requests) == len(asked)
    assert all(len(batch) <= most for batch in world.batches)
    began = {seed: when for when, seed in world.begun}
    for request in requests:
        assert request.reply.done()
        seeds = [row.seed for row in request.rows]
        if request.reply.cancelled() or request.reply.exception():
            assert request.terms.timeout is not None
            continue
        assert request.reply.result()[:, 0, 0, 0].tolist() == seeds
        for row in request.rows:
            assert sum(batch.count(row.seed) for batch in world.batches) == row.steps
    for request in requests:  # what was begun at all was ready in time
        for row in request.rows:
            if row.seed in world.ended:
                in_time = world.ended[row.seed] <= request.deadline + 1e-6
                assert in_time or is_trial(world, request, row)
    for tenant, priority in {(request.terms.tenant, request.terms.priority) for request in requests}:
        same = [r for r in requests if (r.terms.tenant, r.terms.priority) == (tenant, priority)]
        starts = [began[row.seed] for request in same for row in request.rows if row.seed in began]
        assert starts == sorted(starts)


@settings(deadline=None, max_examples=10)
@given(
    line=st.builds(Line, a=st.floats(0.1, 0.5), b=st.floats(0.1, 0.5)),
    most=st.integers(1, 4),
    steps=st.integers(1, 12),
)
def test_nobody_starves_beside_endless_urgent_rows(line, most, steps):
    """More arrives than can be drawn, all of it more urgent; the one row is drawn all the same."""
    gap = line(2)  # and each row takes 8 of them alone
    endless = [
        (number * gap, [make_row(seed=number, steps=8)], Terms(priority=3, tenant="ab"[number % 2]))
        for number in range(int(80 / gap))
    ]
    world = World(line)
    poor = (0.0, [make_row(seed=999, steps=steps)], Terms(priority=-3, tenant="a"))
    asyncio.run(simulate(world, [poor, *endless], BatchLimits(most)))
    assert 999 in world.ended
    order = [seed for _, seed in world.begun]
    # of its tenant only those overtook it that came within a minute: six levels of ten seconds
    overtook = [seed * gap for seed in order[: order.index(999)] if seed % 2 == 0]
    assert max(overtook, default=0.0) <= 60 + 1e-6
