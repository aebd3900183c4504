import math
from dataclasses import replace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from predictor.engine.admission import (
    MIN_GAIN,
    BatchLimits,
    Costs,
    Place,
    Verdict,
    judge,
    row_seconds,
)
from predictor.engine.cost_model import CostModel, Line

SMALL, LARGE = (64, 64), (128, 64)


FREE = Line(0.0, 0.0)


def costs(step: Line, decode: Line = FREE, outer: Line = FREE) -> Costs:
    """Known exactly, of both shapes: the large one takes twice as long."""
    found = Costs(CostModel(), CostModel())
    for model, line in ((found.step, step), (found.decode, decode), (found.outer, outer)):
        for rows in (1, 2) * 6:
            model.observe(SMALL, rows, line(rows))
            model.observe(LARGE, rows, 2 * line(rows))
    return found


def row(steps: int = 10, **fields) -> Place:
    return Place(**{"shape": SMALL, "width": 1, "steps": steps, "arrived": 0.0, **fields})


def joined(line: Line, one: Place, most: int = 100) -> int:
    """How many equal rows a batch takes."""
    batch: list[Place] = []
    known = costs(line)
    while judge(one, batch, known, BatchLimits(most), 0.0) is Verdict.JOIN:
        batch.append(one)
    return len(batch)


positive = st.floats(1e-3, 1)
rows = st.builds(
    row,
    steps=st.integers(1, 50),
    shape=st.sampled_from([SMALL, LARGE]),
    width=st.integers(1, 2),
    arrived=st.floats(-5, 0),
    deadline=st.one_of(st.just(math.inf), st.floats(0, 60)),
)
approximated = st.builds(
    lambda row, every, phase: replace(row, inner_every=every, next_inner=phase % every),
    rows,
    st.integers(1, 4),
    st.integers(0, 3),
)


@settings(deadline=None)
@given(a=positive, b=positive, batch=st.lists(rows, max_size=8), one=rows, most=st.integers(1, 8))
def test_user_limits_come_first(a, b, batch, one, most):
    known = costs(Line(a, b))
    verdict = judge(one, batch, known, BatchLimits(most), 0.0)
    if len(batch) >= most:
        assert verdict in (Verdict.WAIT, Verdict.HOPELESS)
    if not batch:  # nothing else could free the batch for it
        assert verdict in (Verdict.JOIN, Verdict.HOPELESS)


@settings(deadline=None)
@given(a=positive, b=positive, width=st.integers(1, 2))
def test_a_batch_grows_as_long_as_a_row_adds_throughput(a, b, width):
    """Of equal rows, where joining early is worth nothing in itself (b < a)."""
    assume(b <= 0.99 * a)
    line = Line(a, b)
    count = joined(line, row(width=width))

    def gain(rows: int) -> float:
        return (rows + 1) / line((rows + 1) * width) * line(rows * width) / rows - 1

    assert count == 1 or gain(count - 1) >= MIN_GAIN * (1 - 1e-9)
    assert gain(count) < MIN_GAIN * (1 + 1e-9)


def test_where_calls_cost_nothing_of_themselves_equal_rows_go_one_after_the_other():
    assert joined(Line(0.1, 0.0), row()) == 1


def test_where_rows_cost_nothing_the_users_limit_is_the_only_one():
    assert joined(Line(0.0, 0.1), row()) == 100


def test_beyond_the_cap_a_short_row_still_joins_long_ones():
    known, limits = costs(Line(0.1, 0.0)), BatchLimits(8)
    long = row(steps=50)
    assert judge(row(steps=50), [long], known, limits, 0.0) is Verdict.WAIT
    assert judge(row(steps=2), [long], known, limits, 0.0) is Verdict.JOIN
    assert judge(row(steps=2), [row(steps=1)], known, limits, 0.0) is Verdict.WAIT


def test_every_size_is_a_batch_of_its_own():
    known, limits = costs(Line(0.1, 0.0)), BatchLimits(8)
    assert judge(row(shape=LARGE), [row()], known, limits, 0.0) is Verdict.JOIN
    assert judge(row(shape=LARGE), [row(), row(shape=LARGE)], known, limits, 0.0) is Verdict.WAIT


def needs_inner(place: Place, taken: int) -> bool:
    return (taken - place.next_inner) % place.inner_every == 0


def seconds_to(picture: int, batch: list[Place], known: Costs) -> float:
    """Until a row's picture is there: sizes take turns, all stay, each picture is decoded alone."""
    now, left = 0.0, [place.steps for place in batch]
    while True:
        for shape in dict.fromkeys(place.shape for place in batch):
            turn = [number for number, place in enumerate(batch) if place.shape == shape]
            whole = [
                number for number in turn if needs_inner(batch[number], batch[number].steps - left[number])
            ]
            now += known.step.seconds(shape, sum(batch[number].width for number in whole))
            now += known.outer.seconds(shape, sum(batch[number].width for number in set(turn) - set(whole)))
            for number in turn:
                left[number] -= 1
                now += known.decode.seconds(shape, 1) if left[number] == 0 else 0.0
            if left[picture] <= 0:
                return now


@settings(deadline=None)
@given(a=positive, b=positive, batch=st.lists(approximated, min_size=1, max_size=6), one=approximated)
@example(  # two whose whole calls are at the same turns: counted twice, another seems late anyway
    a=0.125,
    b=0.5,
    batch=[row(), *[row(shape=(128, 64), inner_every=2)] * 2, row(steps=6, deadline=14.0)],
    one=row(),
)
def test_no_row_costs_another_its_deadline(a, b, batch, one):
    known = costs(Line(a, b), Line(b, a), Line(a / 4, b / 3))
    assume(judge(one, batch, known, BatchLimits(8), 0.0) is Verdict.JOIN)
    grown = [*batch, one]
    for number, place in enumerate(grown):
        kept = number == len(batch) or seconds_to(number, batch, known) <= place.deadline - 1e-9
        if kept:  # it was not late before
            assert seconds_to(number, grown, known) <= place.deadline + 1e-9


def test_a_row_that_cannot_keep_its_deadline_lets_others_pass_or_ends():
    known, limits = costs(Line(0.1, 0.1)), BatchLimits(8)
    batch = [row(steps=50)] * 4
    assert judge(row(steps=10, deadline=6.5), batch, known, limits, 0.0) is Verdict.JOIN
    assert judge(row(steps=10, deadline=5.5), batch, known, limits, 0.0) is Verdict.LET_PASS
    assert judge(row(steps=10, deadline=1.9), batch, known, limits, 0.0) is Verdict.HOPELESS
    assert judge(row(steps=10, deadline=5.5), [], known, limits, 0.0) is Verdict.JOIN
    assert judge(row(steps=10, deadline=5.5), [], known, limits, 4.0) is Verdict.HOPELESS


def test_what_nobody_knows_yet_is_no_reason_to_refuse():
    unknown = Costs(CostModel(), CostModel())
    assert judge(row(deadline=0.001), [row()] * 3, unknown, BatchLimits(8), 0.0) is Verdict.JOIN


def test_a_batch_does_not_grow_beyond_max_latency_but_late_rows_keep_nobody_out():
    known, limits = costs(Line(0.1, 0.1)), BatchLimits(8, max_latency=4.5)
    one = row(steps=10)
    assert judge(one, [one] * 2, known, limits, 0.0) is Verdict.JOIN  # 4 s
    assert judge(one, [one] * 3, known, limits, 0.0) is Verdict.WAIT  # 5 s
    assert judge(one, [one] * 4, known, limits, 0.0) is Verdict.JOIN  # they are late already
    assert judge(one, [row(steps=10, arrived=-3.0)], known, limits, 0.0) is Verdict.JOIN
    assert judge(one, [row(steps=10, arrived=-2.0)], known, limits, 0.0) is Verdict.WAIT


def test_a_batch_does_not_grow_beyond_the_memory():
    known = costs(Line(0.1, 0.1))
    limits = BatchLimits(8).within(3 * 64 * 64)
    assert judge(row(), [row()] * 2, known, limits, 0.0) is Verdict.JOIN
    assert judge(row(), [row()] * 3, known, limits, 0.0) is Verdict.WAIT
    assert judge(row(shape=LARGE, width=2), [row()] * 2, known, limits, 0.0) is Verdict.JOIN  # one at least
    assert BatchLimits(8).within(None) == BatchLimits(8)


@pytest.mark.parametrize(("most", "wanted"), [(1, 10 * 0.3 + 0.4), (4, 10 * 0.6 / 4 + 0.7 / 4)])
def test_a_row_takes_its_part_of_a_full_batch(most, wanted):
    known = costs(Line(0.1, 0.2), Line(0.1, 0.3))
    assert row_seconds(row(), known, most) == pytest.approx(wanted)


@settings(deadline=None)
@given(a=positive, b=positive, mates=st.lists(approximated, min_size=1, max_size=6), turns=st.integers(0, 20))
def test_steps_of_the_outer_layers_alone_are_never_counted_too_low(a, b, mates, turns):
    known = costs(Line(a, b), outer=Line(a / 4, b / 3))
    mates = [replace(mate, shape=SMALL) for mate in mates]
    taken = 0.0
    for turn in range(turns):
        whole = sum(mate.width for mate in mates if needs_inner(mate, turn))
        taken += known.step.seconds(SMALL, whole)
        taken += known.outer.seconds(SMALL, sum(mate.width for mate in mates) - whole)
    counted = known.stepping(mates, turns)
    assert counted >= taken * (1 - 1e-9)
    if len({(mate.inner_every, mate.next_inner) for mate in mates}) == 1 and len(mates) == 1:
        assert counted == pytest.approx(taken)
    assert known.stepping(mates, turns) <= 2 * turns * known.step.line(SMALL)(
        sum(mate.width for mate in mates)
    ) * (1 + 1e-9)


def test_until_the_outer_layers_were_alone_once_they_cost_what_the_whole_does():
    known = costs(Line(0.1, 0.2))
    unknown = Costs(known.step, known.decode)
    one = row(inner_every=2)
    assert unknown.stepping([one], 10) == pytest.approx(10 * 0.3)
    unknown.outer.observe(SMALL, 1, 0.1)
    assert unknown.stepping([one], 10) == pytest.approx(5 * 0.3 + 5 * 0.1)
    assert row_seconds(one, unknown, 1) == pytest.approx(5 * 0.3 + 5 * 0.1)
    late = row(inner_every=2, deadline=2.5)
    assert judge(late, [], unknown, BatchLimits(8), 0.0) is Verdict.JOIN
    assert judge(replace(late, inner_every=1), [], unknown, BatchLimits(8), 0.0) is Verdict.HOPELESS
