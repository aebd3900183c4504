"""The plans of Standard mode against simulated controllers, in every order that these may take."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from rollout import inference_service as isvc
from rollout.errors import NotFound
from rollout.plan import Canary, Change, Done, Promote, Refuse, Rollback, Wait
from tests.rollout.planning import reach, take_moves
from tests.rollout.simulated_standard import CONTROLLERS, SimulatedStandard

NOTO, OPEN, BAD, OTHER = "notoemoji@1", "openmoji@1", "openmoji@9", "notoemoji@2"

moves = st.lists(st.sampled_from([*CONTROLLERS, "command"]), max_size=25)


def has_canary(simulated):
    try:
        simulated.store.get("InferenceService", "emoji-canary")
    except NotFound:
        return False
    return True


def promoted():
    simulated = SimulatedStandard(NOTO)
    reach(simulated, Canary(OPEN, 10))
    assert isinstance(reach(simulated, Promote())[-1], Done)
    return simulated


def test_a_canary_gets_its_share_of_every_rule():
    simulated = SimulatedStandard(NOTO)
    assert reach(simulated, Canary(OPEN, 10))[-1] == Done(
        "openmoji@1 has 10 % of the traffic (emoji-canary), notoemoji@1 90 %"
    )
    assert simulated.shares() == {NOTO: 90, OPEN: 10}
    assert [rule["backendRefs"] for rule in simulated.store.get("HTTPRoute", "emoji")["spec"]["rules"]] == [
        [
            {"name": "emoji-predictor", "port": port, "weight": 90},
            {"name": "emoji-canary-predictor", "port": port, "weight": 10},
        ]
        for port in (8091, 80)
    ]
    reach(simulated, Canary(OPEN, 50))
    assert simulated.shares() == {NOTO: 50, OPEN: 50}


def test_a_canary_is_a_copy_without_what_marks_other_tools_objects():
    simulated = SimulatedStandard(NOTO)
    reach(simulated, Canary(OPEN, 10))
    metadata = simulated.store.get("InferenceService", "emoji-canary")["metadata"]
    assert metadata["annotations"] == {"serving.kserve.io/deploymentMode": "Standard"}
    assert metadata["labels"] == {"app.kubernetes.io/instance": "emoji"}


def test_after_a_promotion_the_canary_is_gone_and_the_route_as_it_was():
    simulated = SimulatedStandard(NOTO)
    before = simulated.store.get("HTTPRoute", "emoji")["spec"]
    reach(simulated, Canary(OPEN, 10))
    assert reach(simulated, Promote())[-1] == Done("openmoji@1 has all the traffic (emoji)")
    assert simulated.shares() == {OPEN: 100}
    assert simulated.store.get("HTTPRoute", "emoji")["spec"] == before
    assert not has_canary(simulated)


def test_after_a_rollback_everything_is_as_it_was():
    simulated = SimulatedStandard(NOTO)
    before = [simulated.store.get(kind, "emoji")["spec"] for kind in ("InferenceService", "HTTPRoute")]
    reach(simulated, Canary(OPEN, 10))
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert [
        simulated.store.get(kind, "emoji")["spec"] for kind in ("InferenceService", "HTTPRoute")
    ] == before
    assert not has_canary(simulated)


def test_a_promotion_can_be_taken_back_once():
    simulated = promoted()
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert [type(step) for step in reach(simulated, Rollback())] == [Done]


def test_every_command_may_be_run_again():
    simulated = SimulatedStandard(NOTO)
    assert [type(s) for s in reach(simulated, Rollback())] == [Done]
    assert [type(s) for s in reach(simulated, Promote())] == [Done]
    reach(simulated, Canary(OPEN, 10))
    assert [type(s) for s in reach(simulated, Canary(OPEN, 10))] == [Done]
    reach(simulated, Promote())
    assert [type(s) for s in reach(simulated, Promote())] == [Done]


def test_what_does_not_fit_the_state_is_refused():
    simulated = SimulatedStandard(NOTO)
    assert reach(simulated, Canary(NOTO, 10)) == [Refuse("notoemoji@1 is what is served already")]
    reach(simulated, Canary(OPEN, 10))
    assert isinstance(reach(simulated, Canary(OTHER, 10))[-1], Refuse)
    assert isinstance(reach(simulated, Rollback(only=OTHER))[-1], Refuse)


def test_pods_of_a_former_canary_that_are_about_to_go_get_no_traffic():
    simulated = SimulatedStandard(NOTO)
    reach(simulated, Canary(OPEN, 10))
    former = simulated.store.get("Deployment", "emoji-canary-predictor")
    reach(simulated, Rollback())
    simulated.store.objects["Deployment", "emoji-canary-predictor"] = former
    simulated.cluster.write(simulated.cluster.read().plan(Canary(OPEN, 10)))
    assert simulated.cluster.read().plan(Canary(OPEN, 10)) == Wait(
        "waiting for openmoji@1: waiting for the former Deployment of emoji-canary to be gone"
    )
    assert isinstance(reach(simulated, Canary(OPEN, 10))[-1], Done)
    assert simulated.shares() == {NOTO: 90, OPEN: 10}


def test_a_canary_is_scaled_by_its_own_queue():
    simulated = SimulatedStandard(NOTO)
    service = simulated.store.get("InferenceService", "emoji")
    query = 'sum(emoji_queue_rows{namespace="test", inferenceservice="%s"})'
    metric = {"type": "External", "external": {"metric": {"query": query % "emoji"}}}
    service["spec"]["predictor"]["autoScaling"] = {"metrics": [metric]}
    simulated.store.replace(service)
    reach(simulated, Canary(OPEN, 10))
    (copied,) = simulated.cluster.read().canary["spec"]["predictor"]["autoScaling"]["metrics"]
    assert copied["external"]["metric"]["query"] == query % "emoji-canary"


def test_the_default_look_can_be_gone_back_to():
    simulated = SimulatedStandard(NOTO)
    reach(simulated, Canary(OPEN, 10))
    state = simulated.cluster.read()
    unnamed = dataclasses.replace(state, service=isvc.with_look(state.service, None))
    noted = unnamed.plan(Promote()).body
    promoted = dataclasses.replace(state, service=isvc.with_look(state.service, OPEN), route=noted)
    assert promoted.plan(Rollback()).body == isvc.with_look(state.service, None)


def test_a_look_with_none_before_it_is_not_said_to_be_rolled_back():
    assert reach(SimulatedStandard(NOTO), Rollback(only=NOTO)) == [
        Refuse("notoemoji@1 stays: no look before it is known")
    ]


def test_a_route_that_does_not_send_to_the_service_cannot_be_split():
    simulated = SimulatedStandard(NOTO)
    route = simulated.store.get("HTTPRoute", "emoji")
    for rule in route["spec"]["rules"]:
        rule["backendRefs"][0]["name"] = "another"
    simulated.store.replace(route)
    simulated.settle()
    assert reach(simulated, Canary(OPEN, 10)) == [
        Refuse("no rule of the HTTPRoute emoji sends to the Service emoji-predictor")
    ]
    assert not has_canary(simulated)


def test_a_promotion_under_way_is_finished_before_anything_else():
    simulated = SimulatedStandard(NOTO)
    reach(simulated, Canary(OPEN, 10))
    while simulated.cluster.read().look == NOTO:
        step = simulated.cluster.read().plan(Promote())
        if isinstance(step, Change):
            simulated.cluster.write(step)
        simulated.run("route")
    assert isinstance(reach(simulated, Canary(OPEN, 20))[-1], Refuse)
    assert isinstance(reach(simulated, Promote())[-1], Done)


def test_a_look_that_never_gets_ready_gets_no_traffic_and_cannot_be_promoted():
    simulated = SimulatedStandard(NOTO, bad={BAD})
    last = reach(simulated, Canary(BAD, 10), most=5)[-1]
    assert last == Wait("waiting for openmoji@9: 0 of 1 pods of emoji-canary are available, 1 are new")
    assert simulated.shares() == {NOTO: 100}
    stable, canary = simulated.cluster.read().versions()
    assert (stable.role, stable.look, stable.percent, stable.ready) == ("stable", NOTO, 100, True)
    assert (canary.role, canary.look, canary.percent, canary.ready) == ("canary", BAD, 0, False)
    assert isinstance(reach(simulated, Promote())[-1], Refuse)
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert isinstance(reach(simulated, Canary(OPEN, 10))[-1], Done)


@given(first=moves, second=moves, third=moves, look=st.sampled_from([OPEN, BAD]), percent=st.integers(1, 99))
@settings(max_examples=100, deadline=None)
def test_a_canary_never_gets_more_than_its_share_however_often_it_is_interrupted(
    first, second, third, look, percent
):
    simulated = SimulatedStandard(NOTO, {BAD})

    def check():
        shares = simulated.shares()
        assert shares.get(look, 0) <= percent
        assert set(shares) <= {NOTO, OPEN}

    take_moves(simulated, Canary(look, percent), first, check)
    take_moves(simulated, Rollback(only=look), second, check)
    take_moves(simulated, Canary(look, percent), third, check)
    assert isinstance(reach(simulated, Rollback(only=look))[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert not has_canary(simulated)


@given(first=moves, second=moves, third=moves)
@settings(max_examples=100, deadline=None)
def test_a_promotion_and_its_way_back_end_well_however_often_they_are_interrupted(first, second, third):
    simulated = SimulatedStandard(NOTO)
    reach(simulated, Canary(OPEN, 10))

    def check():
        assert set(simulated.shares()) <= {NOTO, OPEN}

    take_moves(simulated, Promote(), first, check)
    take_moves(simulated, Rollback(), second, check)
    take_moves(simulated, Rollback(), third, check)
    assert isinstance(reach(simulated, Rollback())[-1], Done)
    assert simulated.shares() == {NOTO: 100}
    assert not has_canary(simulated)
