"""What is Standard mode's own: two InferenceServices, their Deployments, and the route."""

import dataclasses

from rollout import inference_service as isvc
from rollout.plan import Canary, Change, Done, Promote, Refuse, Rollback, Wait
from tests.rollout.planning import reach
from tests.rollout.simulated_standard import SimulatedStandard

NOTO, OPEN = "notoemoji@1", "openmoji@1"


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
    assert simulated.cluster.read().canary is None


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
    assert simulated.cluster.read().canary is None


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
