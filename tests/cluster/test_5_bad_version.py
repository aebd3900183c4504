"""A version that can't be served is rolled out: nobody but its own pods notices."""

import json

import pytest

from tests.cluster.cluster import until
from tests.cluster.load import Load, by_lora, failed
from tests.cluster.looks import STABLE
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import START_S, Service

pytestmark = pytest.mark.cluster


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
        "canary", "--to", "openmoji@999", "--percent", "10", "--timeout", "120s", timeout=900
    )
    evidence.fact("rollout canary --to openmoji@999", said.splitlines())
    assert status == 2, said
    assert "openmoji@999" in said
    assert "the store has" in said
    assert emoji.traffic() == {STABLE: 100}
    emoji.wait()
