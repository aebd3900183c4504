import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollout import inference_service as isvc
from rollout.errors import Refused

looks = st.one_of(st.none(), st.sampled_from(["notoemoji@1", "openmoji@1"]))
variables = st.lists(st.sampled_from("ABC"), unique=True).map(
    lambda names: [{"name": n, "value": "1"} for n in names]
)


def service(predictor, **status):
    return {"metadata": {"name": "emoji"}, "spec": {"predictor": predictor}, "status": status}


def with_env(kind, env):
    container = {"env": env} if env else {}
    if kind == "model":
        return service({"model": container})
    return service({"containers": [{"name": "sidecar"}, {"name": "kserve-container", **container}]})


@given(
    kind=st.sampled_from(["model", "containers"]),
    before=variables,
    after=variables,
    first=looks,
    second=looks,
)
def test_a_look_is_set_in_its_place_and_nothing_else_changes(kind, before, after, first, second):
    own = [] if first is None else [{"name": "DEFAULT_LOOK", "value": first}]
    original = with_env(kind, before + own + after)
    kept = copy.deepcopy(original)
    changed = isvc.with_look(original, second)
    assert original == kept
    assert isvc.look(original) == first
    assert isvc.look(changed) == second
    if first is not None and second is not None:
        assert isvc.with_look(changed, first) == original
    names = [v["name"] for v in before + after]
    predictor = changed["spec"]["predictor"]
    container = predictor["model"] if kind == "model" else predictor["containers"][1]
    assert [v["name"] for v in container.get("env", []) if v["name"] != "DEFAULT_LOOK"] == names


@given(percent=st.one_of(st.none(), st.integers(0, 100)), before=st.one_of(st.none(), st.integers(0, 100)))
def test_a_share_is_set_and_removed(percent, before):
    original = isvc.with_canary_percent(with_env("model", []), before)
    assert isvc.canary_percent(isvc.with_canary_percent(original, percent)) == percent
    assert isvc.canary_percent(original) == before


@pytest.mark.parametrize(
    ("status", "annotation", "mode"),
    [
        ("Knative", "Standard", "knative"),  # the status wins
        ("RawDeployment", None, "standard"),
        (None, "Serverless", "knative"),
        (None, "Standard", "standard"),
    ],
)
def test_the_mode_is_the_controllers(status, annotation, mode):
    subject = service({"model": {}}, **({"deploymentMode": status} if status else {}))
    subject["metadata"]["annotations"] = (
        {"serving.kserve.io/deploymentMode": annotation} if annotation else {}
    )
    assert isvc.mode(subject) == mode


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        (service({"model": {}}, deploymentMode="ModelMesh"), "ModelMesh is not supported"),
        (service({"model": {}}), "has not taken up"),
    ],
)
def test_a_mode_that_is_not_known_is_refused(subject, why):
    with pytest.raises(Refused, match=why):
        isvc.mode(subject)


def test_a_look_from_elsewhere_and_a_predictor_of_unknown_kind_are_refused():
    with pytest.raises(Refused, match="valueFrom"):
        isvc.look(with_env("model", [{"name": "DEFAULT_LOOK", "valueFrom": {"configMapKeyRef": {}}}]))
    with pytest.raises(Refused, match="kserve-container"):
        isvc.look(service({"sklearn": {}}))
