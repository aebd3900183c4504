"""A canary by the chart's values, in each mode, and as docs/rollout.md has it: one value at a time."""

import re
from copy import deepcopy
from typing import Any

import pytest

from tests.manifests.render import ROOT, helm, one

pytestmark = pytest.mark.manifests


def _traffic(*sets: str) -> tuple[str, int | None]:
    """The look of the newest revision in Knative mode, and its share."""
    spec = one(helm(*sets), "InferenceService", "emoji")["spec"]["predictor"]
    return spec["model"]["env"][0]["value"], spec.get("canaryTrafficPercent")


def test_a_canary_in_knative_mode_step_by_step() -> None:
    assert _traffic() == ("notoemoji@1", None)
    assert _traffic("canary.look=openmoji@1") == ("openmoji@1", 0)
    assert _traffic("canary.look=openmoji@1", "canary.percent=10") == ("openmoji@1", 10)
    assert _traffic("look=openmoji@1", "canary.percent=") == ("openmoji@1", None), (
        "promoted: the same revision has all"
    )
    assert _traffic("canary.look=openmoji@1", "canary.percent=0") == ("openmoji@1", 0), "rolled back at once"
    assert _traffic("canary.percent=0") == ("notoemoji@1", 0), "the old look starts anew without traffic"


def _weights(*sets: str) -> list[dict[str, int]]:
    route = one(helm("mode=Standard", *sets), "HTTPRoute", "emoji")
    return [{ref["name"]: ref["weight"] for ref in rule["backendRefs"]} for rule in route["spec"]["rules"]]


def test_a_canary_in_standard_mode_step_by_step() -> None:
    assert _weights() == [{"emoji-predictor": 100}] * 2
    assert _weights("canary.look=openmoji@1") == _weights("canary.look=openmoji@1", "canary.percent=0")
    for percent in (0, 10, 100):
        weights = {"emoji-predictor": 100 - percent, "emoji-canary-predictor": percent}
        assert _weights("canary.look=openmoji@1", f"canary.percent={percent}") == [weights] * 2


DOCUMENTED = re.compile(r"^\| `([a-z.]+): (\S+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def _by_values(mode: str, heading: str, **before: str) -> list[Any]:
    """What the edits of a table of docs/rollout.md lead to, one by one: look and share in Knative mode;
    in Standard mode the looks of the stable service and of the canary, and the canary's share."""
    page = (ROOT / "docs" / "rollout.md").read_text().partition("\n## By GitOps\n")[2]
    table = page.partition(f"\n{heading}")[2].partition("\n| ")[2].partition("\n\n")[0]
    values, seen = {"mode": mode, "look": "notoemoji@1"} | before, []
    for key, value, *effects in DOCUMENTED.findall(table):
        if effects[mode == "Standard"] == "(leave out)":
            continue
        values[key] = value.strip('"')
        sets = [f"{name}={it}" for name, it in values.items()]
        if mode == "Knative":
            seen.append(_traffic(*sets))
            continue
        services = {
            item["metadata"]["name"]: item["spec"]["predictor"]["model"]["env"][0]["value"]
            for item in helm(*sets)
            if item["kind"] == "InferenceService"
        }
        (shares,) = {share.get("emoji-canary-predictor") for share in _weights(*sets)}
        seen.append((services["emoji"], services.get("emoji-canary"), shares))
    return seen


def test_a_rollout_one_value_at_a_time_as_documented() -> None:
    old, new = "notoemoji@1", "openmoji@1"
    assert _by_values("Knative", "Promote") == [(new, percent) for percent in (0, 10, 100, 100, 100, None)]
    assert _by_values("Standard", "Promote") == [
        *((old, new, percent) for percent in (0, 10, 100)),
        *((new, new, percent) for percent in (100, 0)),
        *[(new, None, None)] * 2,
    ]


def test_a_rollback_one_value_at_a_time_as_documented() -> None:
    old, new = "notoemoji@1", "openmoji@1"
    canary = {"canary.look": new, "canary.percent": "10"}
    assert _by_values("Knative", "Roll back", **canary) == [(new, 0), (old, 0), (old, None)]
    assert _by_values("Standard", "Roll back", **canary) == [(old, new, 0), *[(old, None, None)] * 2]


def test_a_canary_of_standard_mode_has_as_many_pods_and_counts_its_own_queue() -> None:
    objects = deepcopy(helm("canary.look=openmoji@1", "predictor.minReplicas=3", values="gpu"))
    stable, canary = (one(objects, "InferenceService", name) for name in ("emoji", "emoji-canary"))
    for service, name in ((stable, "emoji"), (canary, "emoji-canary")):
        predictor = service["spec"]["predictor"]
        query = predictor.pop("autoScaling")["metrics"][0]["external"]["metric"]["query"]
        assert f'inferenceservice="{name}"' in query
        del predictor["model"]["env"]
    assert canary["spec"] == stable["spec"]
    assert canary["metadata"]["annotations"] == stable["metadata"]["annotations"]
