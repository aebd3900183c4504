"""What plans keep in either mode, against simulated controllers, in every order that these may take."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout.plan import Canary, Done, Promote, Refuse, Rollback, Wait
from tests.rollout.planning import reach, take_moves
from tests.rollout.simulated_knative import SimulatedKnative
from tests.rollout.simulated_standard import SimulatedStandard

NOTO, OPEN, BAD, OTHER = "notoemoji@1", "openmoji@1", "openmoji@9", "notoemoji@2"

either = pytest.mark.parametrize("mode", [SimulatedKnative, SimulatedStandard])


def promoted(mode, first=NOTO, second=OPEN, bad=()):
    simulated = mode(first, bad)
    assert isinstance(reach(simulated, Canary(second, 10))[-1], Done)
    assert isinstance(reach(simulated, Promote())[-1], Done)
    return simulated


def specs(simulated):
    """The specs that split the traffic."""
    return [simulated.store.get(*thing)["spec"] for thing in simulated.splits]


def moves(mode):
    return st.lists(st.sampled_from([*mode.controllers, "command"]), max_size=25)


@either
def test_after_a_rollback_everything_is_as_it_was(mode):
    simulated = mode(NOTO)
    before = specs(simulated)
    reach(simulated, Canary(OPEN, 10))
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert specs(simulated) == before
    assert [version.role for version in simulated.cluster.read().versions()] == ["stable"]


@either
def test_a_promotion_can_be_taken_back_once(mode):
    simulated = promoted(mode)
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert [type(step) for step in reach(simulated, Rollback())] == [Done]
    assert simulated.shares() == {NOTO: 100}


@either
def test_a_look_with_none_before_it_is_not_said_to_be_rolled_back(mode):
    assert reach(mode(NOTO), Rollback(only=NOTO)) == [Refuse("notoemoji@1 stays: no look before it is known")]


@either
def test_every_command_may_be_run_again(mode):
    simulated = mode(NOTO)
    assert [type(s) for s in reach(simulated, Rollback())] == [Done]
    assert [type(s) for s in reach(simulated, Promote())] == [Done]
    reach(simulated, Canary(OPEN, 10))
    assert [type(s) for s in reach(simulated, Canary(OPEN, 10))] == [Done]
    reach(simulated, Promote())
    assert [type(s) for s in reach(simulated, Promote())] == [Done]


@either
def test_what_does_not_fit_the_state_is_refused(mode):
    simulated = mode(NOTO)
    (step,) = reach(simulated, Canary(NOTO, 10))
    assert isinstance(step, Refuse)
    assert step.text.startswith("notoemoji@1 is what is served already")
    reach(simulated, Canary(OPEN, 10))
    assert reach(simulated, Canary(OTHER, 10)) == [
        Refuse("a canary to openmoji@1 is on (10 %): `promote` or `rollback` it first")
    ]
    (step,) = reach(simulated, Rollback(only=OTHER))
    assert isinstance(step, Refuse)
    assert step.text.startswith("notoemoji@2 is not what is being rolled out any more: notoemoji@1 has 90 %")


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        (SimulatedKnative, "predictor: there is no such LoRA"),
        (SimulatedStandard, "0 of 1 pods of emoji-canary are available, 1 are new"),
    ],
)
def test_a_look_that_never_gets_ready_gets_no_traffic_says_why_and_can_be_rolled_back(mode, why):
    simulated = mode(NOTO, bad={BAD})
    last = reach(simulated, Canary(BAD, 10), most=5)[-1]
    assert isinstance(last, Wait)
    assert why in last.text
    assert simulated.shares() == {NOTO: 100}
    stable, canary = simulated.cluster.read().versions()
    assert (stable.role, stable.look, stable.percent, stable.ready) == ("stable", NOTO, 100, True)
    assert (canary.role, canary.look, canary.percent, canary.ready) == ("canary", BAD, 0, False)
    assert why in canary.problem
    assert isinstance(reach(simulated, Promote())[-1], Refuse)
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert isinstance(reach(simulated, Canary(OPEN, 10))[-1], Done)


@either
@pytest.mark.parametrize("kind", ["fresh", "promoted before"])
@given(data=st.data(), look=st.sampled_from([OPEN, BAD]), percent=st.integers(1, 99))
@settings(max_examples=100, deadline=None)
def test_a_canary_never_gets_more_than_its_share_however_often_it_is_interrupted(
    mode, kind, data, look, percent
):
    simulated = mode(NOTO, {BAD}) if kind == "fresh" else promoted(mode, OTHER, NOTO, {BAD})
    before = specs(simulated)

    def check():
        shares = simulated.shares()
        assert sum(shares.values()) == pytest.approx(100, abs=1)
        assert shares.get(look, 0) <= percent
        assert set(shares) <= {NOTO, OPEN}

    for goal in (Canary(look, percent), Rollback(only=look), Canary(look, percent)):
        take_moves(simulated, goal, data.draw(moves(mode)), check)
    assert isinstance(reach(simulated, Rollback(only=look))[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert specs(simulated) == before
    assert [version.role for version in simulated.cluster.read().versions()] == ["stable"]


@either
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_promotion_and_its_way_back_end_well_however_often_they_are_interrupted(mode, data):
    simulated = mode(NOTO)
    reach(simulated, Canary(OPEN, 10))

    def check():
        shares = simulated.shares()
        assert sum(shares.values()) == pytest.approx(100, abs=1)
        assert set(shares) <= {NOTO, OPEN}

    for goal in (Promote(), Rollback(), Rollback()):
        take_moves(simulated, goal, data.draw(moves(mode)), check)
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert [version.role for version in simulated.cluster.read().versions()] == ["stable"]
