from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.cost_model import ENOUGH, LATEST, SHAPES, STALE, CostModel, Line

SHAPE = (128, 128)


def taught(line: Line, rows: range, calls: int = ENOUGH + 1) -> CostModel:
    model = CostModel()
    for _ in range(calls):
        for number in rows:
            model.observe(SHAPE, number, line(number))
    return model


lines = st.builds(Line, a=st.floats(1e-4, 1), b=st.floats(1e-4, 1))


@settings(deadline=None)
@given(lines, st.integers(2, 16))
def test_exact_calls_give_the_exact_line(line, most):
    found = taught(line, range(1, most + 1)).line(SHAPE)
    assert found.a == pytest.approx(line.a, rel=1e-6, abs=1e-9)
    assert found.b == pytest.approx(line.b, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(lines, st.integers(0, 2**32), st.floats(10, 1000))
def test_outliers_do_not_count(line, seed, factor):
    """Of each B, a third of the calls takes many times as long."""
    random, model = Random(seed), CostModel()
    for number in range(1, 9):
        calls = [line(number)] * 6 + [factor * line(number)] * 3
        random.shuffle(calls)
        for seconds in [line(number), *calls]:
            model.observe(SHAPE, number, seconds)
    assert model.line(SHAPE).a == pytest.approx(line.a, rel=1e-6, abs=1e-9)
    assert model.line(SHAPE).b == pytest.approx(line.b, rel=1e-6, abs=1e-9)


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(1, 32), st.lists(st.floats(1e-6, 100), min_size=1, max_size=5), min_size=1)
)
def test_whatever_the_calls_take_no_part_is_negative(calls):
    model = CostModel()
    for rows, times in calls.items():
        for seconds in times:
            model.observe(SHAPE, rows, seconds)
    line = model.line(SHAPE)
    assert line.a >= 0
    assert line.b >= 0
    assert line(1) > 0


def test_the_first_call_of_a_size_does_not_count_once_there_is_a_second():
    model = CostModel()
    model.observe(SHAPE, 1, 60.0)  # it compiled
    assert model.has_seen(SHAPE, 1)
    assert not model.has_seen(SHAPE, 2)
    assert model.seconds(SHAPE, 1) == pytest.approx(60)
    model.observe(SHAPE, 1, 0.1)
    assert model.seconds(SHAPE, 1) == pytest.approx(0.1)


def test_a_few_calls_do_not_tell_that_sharing_gains_nothing():
    model = CostModel()
    for _ in range(LATEST):
        model.observe(SHAPE, 1, 0.1)
    for _ in range(ENOUGH):
        assert model.line(SHAPE).b == pytest.approx(0.05)
        model.observe(SHAPE, 2, 0.2)
    model.observe(SHAPE, 2, 0.2)
    assert model.line(SHAPE).b == pytest.approx(0)


def test_a_device_that_has_become_slower_is_noticed():
    model = taught(Line(0.01, 0.05), range(1, 3), calls=LATEST)
    for _ in range(LATEST):
        for rows in (1, 2):
            model.observe(SHAPE, rows, 2 * Line(0.01, 0.05)(rows))
    assert model.line(SHAPE).a == pytest.approx(0.02)
    assert model.line(SHAPE).b == pytest.approx(0.1)


def test_a_size_that_was_not_called_for_long_is_not_believed_any_more():
    model = taught(Line(0.2, 0.0), range(1, 3))  # in a slow moment sharing seemed to gain nothing
    for _ in range(STALE):
        model.observe(SHAPE, 1, 0.2)
    assert model.line(SHAPE).b > 0  # so it's worth another try


@settings(deadline=None)
@given(lines, st.floats(0.01, 100), st.integers(1, 4))
def test_one_call_tells_how_much_of_what_is_doubted_holds(line, factor, rows):
    model = taught(line, range(1, 5))
    model.doubt(SHAPE)
    model.observe(SHAPE, rows, factor * line(rows))
    for number in range(1, 5):
        assert model.seconds(SHAPE, number) == pytest.approx(factor * line(number), rel=1e-6)
    model.observe(SHAPE, rows, 1e6)  # doubted once
    assert model.seconds(SHAPE, rows) == pytest.approx(factor * line(rows), rel=1e-6)


def test_a_call_that_may_compile_settles_no_doubt():
    line = Line(0.1, 0.2)
    model = taught(line, range(1, 3))
    model.doubt(SHAPE)
    model.observe(SHAPE, 8, 60.0)
    assert model.seconds(SHAPE, 2) == pytest.approx(line(2))
    model.observe(SHAPE, 2, line(2) / 2)
    assert model.seconds(SHAPE, 1) == pytest.approx(line(1) / 2)


def test_another_shape_costs_what_the_most_like_it_does_by_pixels():
    model = CostModel()
    assert model.seconds(SHAPE, 4) == 0
    for rows in (1, 2) * 6:
        model.observe((64, 64), rows, Line(0.1, 0.2)(rows))
        model.observe((512, 512), rows, Line(9, 9)(rows))
    assert model.line((64, 128)).a == pytest.approx(0.2)
    assert model.line((64, 128)).b == pytest.approx(0.4)
    assert model.seconds((64, 64), 0) == 0


def test_only_so_many_shapes_are_remembered():
    model = CostModel()
    for number in range(1, 3 * SHAPES):
        model.observe((number, 8), 1, 1.0)
        model.observe((1, 8), 1, 1.0)  # in use
    assert len(model.lines) == SHAPES
    assert (1, 8) in model.lines
