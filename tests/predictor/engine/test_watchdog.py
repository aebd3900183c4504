from random import Random

import pytest

from predictor.engine.cost_model import CostModel, Line
from predictor.engine.watchdog import Watchdog

SHAPE = (128, 128)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def hour(random: Random, step: Line, *, longest: float = 120.0) -> tuple[Watchdog, CostModel, Clock]:
    """An hour of steps without a pause: each number of rows compiles at first, calls vary, the machine
    stalls now and then. Asks before the end of each call, and is told of no hang.
    """
    clock, costs = Clock(), CostModel()
    dog = Watchdog(clock, longest)
    while clock.now < 3600:
        rows = random.randint(1, 16)
        seconds = step(rows) * random.lognormvariate(0, 0.3)
        if not costs.has_seen(SHAPE, rows):
            seconds += random.uniform(5, 60)
        elif random.random() < 0.01:
            seconds += random.uniform(0, 3)
        with dog.watch(costs.seconds(SHAPE, rows) if costs.has_seen(SHAPE, rows) else None):
            clock.now += seconds
            assert not dog.hung, (rows, seconds)
        costs.observe(SHAPE, rows, seconds)
    return dog, costs, clock


@pytest.mark.parametrize(
    "step", [Line(0.012, 0.065), Line(0.001, 0.02), Line(0.5, 1.0)], ids=["laptop", "gpu", "large on a cpu"]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_saturated_hour_without_a_false_alarm(step, seed):
    hour(Random(seed), step)


@pytest.mark.parametrize("seed", range(3))
def test_after_it_a_hung_step_is_noticed_within_five_seconds(seed):
    dog, costs, clock = hour(Random(seed), Line(0.012, 0.065))
    for rows in range(1, 17):
        with dog.watch(costs.seconds(SHAPE, rows)):
            clock.now += 5
            assert dog.hung
        assert not dog.hung  # it came back after all


def test_the_longest_allowance_is_for_what_nobody_has_seen_and_bounds_the_others():
    clock = Clock()
    dog = Watchdog(clock, 120)
    assert not dog.hung
    with dog.watch():
        clock.now += 120
        assert not dog.hung
        clock.now += 0.1
        assert dog.hung
    assert [dog.allowance(expected) for expected in (0.1, 1.0, 30.0)] == [pytest.approx(4.1), 10, 120]


def test_idling_is_not_hanging():
    clock = Clock()
    dog = Watchdog(clock, 1)
    clock.now += 1e9
    assert not dog.hung
