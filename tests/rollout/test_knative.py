"""The plans of Knative mode against the controllers' own rules, in every order that these may take."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollout import inference_service as isvc
from rollout.plan import Canary, Done, Promote, Refuse, Rollback, Wait
from tests.rollout.planning import reach, take_moves
from tests.rollout.simulated_knative import CONTROLLERS, SimulatedKnative

NOTO, OPEN, BAD, OTHER = "notoemoji@1", "openmoji@1", "openmoji@9", "notoemoji@2"

moves = st.lists(st.sampled_from([*CONTROLLERS, "command"]), max_size=25)


def promoted(first=NOTO, second=OPEN, bad=()):
    simulated = SimulatedKnative(first, bad)
    assert isinstance(reach(simulated, Canary(second, 10))[-1], Done)
    assert isinstance(reach(simulated, Promote())[-1], Done)
    return simulated


def test_a_canary_gets_its_share_and_can_be_promoted():
    simulated = SimulatedKnative(NOTO)
    assert reach(simulated, Canary(OPEN, 10))[-1] == Done(
        "openmoji@1 has 10 % of the traffic (emoji-predictor-00002), notoemoji@1 90 %"
    )
    assert simulated.shares() == ({NOTO: 90, OPEN: 10}, 0)
    reach(simulated, Canary(OPEN, 50))
    assert simulated.shares() == ({NOTO: 50, OPEN: 50}, 0)
    assert len(simulated.revisions()) == 2
    assert reach(simulated, Promote())[-1] == Done("openmoji@1 has all the traffic (emoji-predictor-00002)")
    assert simulated.shares() == ({OPEN: 100}, 0)
    assert "canaryTrafficPercent" not in simulated.cluster.read().service["spec"]["predictor"]


def test_a_rollback_leaves_the_spec_as_it_was_before_the_canary():
    simulated = SimulatedKnative(NOTO)
    before = simulated.cluster.read().service["spec"]
    reach(simulated, Canary(OPEN, 10))
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == ({NOTO: 100}, 0)
    assert simulated.cluster.read().service["spec"] == before


def test_a_promotion_can_be_taken_back_once():
    simulated = promoted()
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == ({NOTO: 100}, 0)
    assert [type(step) for step in reach(simulated, Rollback())] == [Done]
    assert simulated.shares() == ({NOTO: 100}, 0)


def test_a_look_with_none_before_it_is_not_said_to_be_rolled_back():
    assert reach(SimulatedKnative(NOTO), Rollback(only=NOTO)) == [
        Refuse("notoemoji@1 stays: no look before it is known")
    ]


def test_every_command_may_be_run_again():
    simulated = SimulatedKnative(NOTO)
    assert [type(s) for s in reach(simulated, Rollback())] == [Done]
    assert [type(s) for s in reach(simulated, Promote())] == [Done]
    reach(simulated, Canary(OPEN, 10))
    assert [type(s) for s in reach(simulated, Canary(OPEN, 10))] == [Done]
    reach(simulated, Promote())
    assert [type(s) for s in reach(simulated, Promote())] == [Done]


def test_what_does_not_fit_the_state_is_refused():
    simulated = SimulatedKnative(NOTO)
    assert reach(simulated, Canary(NOTO, 10)) == [
        Refuse("notoemoji@1 is what is served already, with all the traffic")
    ]
    reach(simulated, Canary(OPEN, 10))
    assert reach(simulated, Canary(OTHER, 10)) == [
        Refuse("a canary to openmoji@1 is on (10 %): `promote` or `rollback` it first")
    ]
    assert reach(simulated, Rollback(only=OTHER))[0] == Refuse(
        "notoemoji@2 is not what is being rolled out any more: "
        "notoemoji@1 has 90 %, openmoji@1 has 10 %; asked for openmoji@1, 10 % for the newest revision"
    )


def test_a_canary_of_more_than_a_look_is_taken_back_as_far_as_is_safe():
    simulated = SimulatedKnative(NOTO)
    before = simulated.store.get("InferenceService", "emoji")
    service = isvc.with_canary_percent(isvc.with_look(before, OPEN), 20)
    service["spec"]["predictor"]["model"]["args"] = ["--request_timeout=0.05"]
    simulated.store.replace(service)
    simulated.settle()
    assert simulated.shares() == ({NOTO: 80, OPEN: 20}, 0)
    assert isinstance(reach(simulated, Canary(OTHER, 10))[-1], Refuse)
    assert isinstance(reach(simulated, Canary(OPEN, 30))[-1], Done)
    for _ in range(2):
        last = reach(simulated, Rollback(only=OPEN))[-1]
        assert isinstance(last, Done)
        assert "notoemoji@1 has all the traffic again" in last.text
        assert "still asks for another args: put that back" in last.text
        assert simulated.shares() == ({NOTO: 100}, 0)
    service = simulated.store.get("InferenceService", "emoji")
    simulated.store.replace({**service, "spec": isvc.with_canary_percent(before, 0)["spec"]})
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.store.get("InferenceService", "emoji")["spec"] == before["spec"]


def test_a_canary_of_a_new_image_alone_is_none_of_a_look():
    simulated = SimulatedKnative(NOTO)
    service = isvc.with_canary_percent(simulated.store.get("InferenceService", "emoji"), 20)
    service["spec"]["predictor"]["model"]["image"] = "new"
    simulated.store.replace(service)
    simulated.settle()
    assert reach(simulated, Canary(OPEN, 10)) == [
        Refuse("a canary of something else than the look is on (20 %)")
    ]
    assert "still asks for another image" in reach(simulated, Rollback())[-1].text
    assert isvc.canary_percent(simulated.store.get("InferenceService", "emoji")) == 0


def test_a_look_that_never_gets_ready_gets_no_traffic_says_why_and_can_be_rolled_back():
    simulated = SimulatedKnative(NOTO, bad={BAD})
    last = reach(simulated, Canary(BAD, 10), most=5)[-1]
    assert isinstance(last, Wait)
    assert "predictor: there is no such LoRA" in last.text
    assert simulated.shares() == ({NOTO: 100}, 0)
    stable, canary = simulated.cluster.read().versions()
    assert (stable.role, stable.look, stable.percent, stable.ready) == ("stable", NOTO, 100, True)
    assert (canary.role, canary.look, canary.percent, canary.ready) == ("canary", BAD, 0, False)
    assert "predictor: there is no such LoRA" in canary.problem
    assert isinstance(reach(simulated, Promote())[-1], Refuse)
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == ({NOTO: 100}, 0)
    assert isinstance(reach(simulated, Canary(OPEN, 10))[-1], Done)


@pytest.mark.parametrize("kind", ["fresh", "promoted before"])
@given(first=moves, second=moves, third=moves, look=st.sampled_from([OPEN, BAD]), percent=st.integers(1, 99))
@settings(max_examples=100, deadline=None)
def test_a_canary_never_gets_more_than_its_share_however_often_it_is_interrupted(
    kind, first, second, third, look, percent
):
    simulated = SimulatedKnative(NOTO, {BAD}) if kind == "fresh" else promoted(OTHER, NOTO, {BAD})

    def check():
        shares, unready = simulated.shares()
        assert unready == 0
        assert sum(shares.values()) == 100
        assert shares.get(look, 0) <= percent
        assert set(shares) <= {NOTO, look}

    take_moves(simulated, Canary(look, percent), first, check)
    take_moves(simulated, Rollback(only=look), second, check)
    take_moves(simulated, Canary(look, percent), third, check)
    assert isinstance(reach(simulated, Rollback(only=look))[-1], Done)
    assert simulated.shares() == ({NOTO: 100}, 0)
    assert "canaryTrafficPercent" not in simulated.cluster.read().service["spec"]["predictor"]


@given(first=moves, second=moves, third=moves)
@settings(max_examples=100, deadline=None)
def test_a_promotion_and_its_way_back_end_well_however_often_they_are_interrupted(first, second, third):
    simulated = SimulatedKnative(NOTO)
    reach(simulated, Canary(OPEN, 10))

    def check():
        shares, unready = simulated.shares()
        assert unready == 0
        assert sum(shares.values()) == 100

    take_moves(simulated, Promote(), first, check)
    take_moves(simulated, Rollback(), second, check)
    take_moves(simulated, Rollback(), third, check)
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == ({NOTO: 100}, 0)
