"""What is Knative mode's own: revisions, and canaries that differ in more than the look."""

from rollout import inference_service as isvc
from rollout.plan import Canary, Done, Promote, Refuse, Rollback
from tests.rollout.planning import reach
from tests.rollout.simulated_knative import SimulatedKnative

NOTO, OPEN, OTHER = "notoemoji@1", "openmoji@1", "notoemoji@2"


def test_a_canary_gets_its_share_and_can_be_promoted():
    simulated = SimulatedKnative(NOTO)
    assert reach(simulated, Canary(OPEN, 10))[-1] == Done(
        "openmoji@1 has 10 % of the traffic (emoji-predictor-00002), notoemoji@1 90 %"
    )
    assert simulated.shares() == {NOTO: 90, OPEN: 10}
    reach(simulated, Canary(OPEN, 50))
    assert simulated.shares() == {NOTO: 50, OPEN: 50}
    assert len(simulated.revisions()) == 2
    assert reach(simulated, Promote())[-1] == Done("openmoji@1 has all the traffic (emoji-predictor-00002)")
    assert simulated.shares() == {OPEN: 100}
    assert "canaryTrafficPercent" not in simulated.cluster.read().service["spec"]["predictor"]


def test_a_canary_of_more_than_a_look_is_taken_back_as_far_as_is_safe():
    simulated = SimulatedKnative(NOTO)
    before = simulated.store.get("InferenceService", "emoji")
    service = isvc.with_canary_percent(isvc.with_look(before, OPEN), 20)
    service["spec"]["predictor"]["model"]["args"] = ["--request_timeout=0.05"]
    simulated.store.replace(service)
    simulated.settle()
    assert simulated.shares() == {NOTO: 80, OPEN: 20}
    assert isinstance(reach(simulated, Canary(OTHER, 10))[-1], Refuse)
    assert isinstance(reach(simulated, Canary(OPEN, 30))[-1], Done)
    for _ in range(2):
        last = reach(simulated, Rollback(only=OPEN))[-1]
        assert isinstance(last, Done)
        assert "notoemoji@1 has all the traffic again" in last.text
        assert "still asks for another args: put that back" in last.text
        assert simulated.shares() == {NOTO: 100}
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
