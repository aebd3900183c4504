"""A version that can't be served is rolled out: nobody but its own pods notices."""

import json
from typing import Any

import pytest

from tests.cluster.cluster import until
from tests.cluster.load import Load, by_lora, failed
from tests.cluster.looks import STABLE
from tests.cluster.modes import MODE, OUT, SMALL
from tests.cluster.overlay import write_kustomization
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import NAME, START_S, Service

pytestmark = pytest.mark.cluster

MISSING = "openmoji@999"


def test_corrupt_adapter(emoji: Service, evidence: Section) -> None:
    """A corrupt adapter as canary: never ready, all traffic on the old version, `rollout status` says why"""
    number = emoji.weights_job("corrupt")
    bad = f"openmoji@{number}"
    try:
        with Load(emoji.ingress(), LIGHT, 0.3) as load:
            status, said = emoji.rollout(
                "canary", "--to", bad, "--percent", "10", "--timeout", "90s", "--keep", timeout=300
            )
            evidence.fact(f"rollout canary --to {bad} --keep", said.splitlines())
            assert status == 3, said

            def reason() -> str:
                shown = json.loads(emoji.rollout("status", "--output", "json")[1])
                (canary,) = (version for version in shown["versions"] if version["look"] == bad)
                assert not canary["ready"]
                assert canary["percent"] == 0
                return canary["problem"] if "SHA-256" in (canary["problem"] or "") else ""

            evidence.fact("rollout status, problem", until("the status says why", reason, START_S))
            _, text = emoji.rollout("status")
            evidence.fact("rollout status", text.splitlines())
            assert "SHA-256" in text
            assert emoji.traffic() == {STABLE: 100}

            status, said = emoji.rollout("rollback")
            evidence.fact("rollout rollback", said.splitlines())
            assert status == 0, said
            assert emoji.traffic() == {STABLE: 100}
        evidence.load("load of 0.3/s meanwhile", load.outcomes)
        assert failed(load.outcomes) == []
        assert set(by_lora(load.outcomes)) == {STABLE}
    finally:
        emoji.weights_job("remove", number)
    emoji.wait()


def test_missing_version(emoji: Service, evidence: Section) -> None:
    """A version that is not in the store: rolled back by itself, with the reason"""
    status, said = emoji.rollout(
        "canary", "--to", MISSING, "--percent", "10", "--timeout", "120s", timeout=900
    )
    evidence.fact(f"rollout canary --to {MISSING}", said.splitlines())
    assert status == 2, said
    assert MISSING in said
    assert "the store has" in said
    assert emoji.traffic() == {STABLE: 100}
    emoji.wait()


def test_missing_version_by_values(emoji: Service, evidence: Section) -> None:
    """The component `canary` with such a version: no request fails, and `rollout status` says why"""
    look = {"op": "replace", "path": "/spec/predictor/model/env/0/value", "value": MISSING}
    small: list[dict[str, Any]] = [
        {"op": "add", "path": "/spec/predictor/model/resources", "value": SMALL},
        {"op": "add", "path": "/spec/predictor/minReplicas", "value": 1},
        {"op": "add", "path": "/spec/predictor/maxReplicas", "value": 1},
    ]
    canary = (NAME, [look]) if MODE == "Knative" else (f"{NAME}-canary", [look, *small])
    folder = OUT / "kustomize-canary"
    patches = [(f"InferenceService/{canary[0]}", canary[1])]
    write_kustomization(folder, emoji.namespace, (f"canary/{MODE.lower()}",), patches)

    def reason() -> str:
        shown = json.loads(emoji.rollout("status", "--output", "json")[1])
        problems = [version["problem"] or "" for version in shown["versions"] if version["look"] == MISSING]
        return next((problem for problem in problems if "the store has" in problem), "")

    with Load(emoji.ingress(), LIGHT, 0.5) as load:
        emoji.cluster.kubectl("apply", "-k", str(folder))
        evidence.fact("rollout status, problem", until("the status says why", reason, START_S, every=2))
        assert emoji.traffic() == {STABLE: 100}
        status, said = emoji.rollout("rollback")
        evidence.fact("rollout rollback", said.splitlines())
        assert status == 0, said
        emoji.cluster.kubectl("apply", "-k", str(OUT / "kustomize"))  # the values without a canary again
        emoji.wait()
    evidence.load("load of 0.5/s meanwhile", load.outcomes)
    assert failed(load.outcomes) == []
    assert set(by_lora(load.outcomes)) == {STABLE}
    assert emoji.traffic() == {STABLE: 100}
