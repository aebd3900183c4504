"""The canary that needs no second pod: a weighted alias in one predictor, changed while it draws."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from predictor.looks.sticky import choose
from tests.cluster.cluster import ROOT, until
from tests.cluster.load import Load, burst, by_lora, failed
from tests.cluster.looks import CANARY, STABLE
from tests.cluster.modes import REGISTRY
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import PREDICTOR_PORT, Service

pytestmark = pytest.mark.cluster

KEYED = [replace(LIGHT[number % len(LIGHT)], key=f"user-{number}") for number in range(24)]
TAKEN_UP_S = 60.0
"""Two seconds on an idle machine."""


class Alias:
    """The alias `emoji`, set in the store by a shell beside the predictor."""

    def __init__(self, service: Service) -> None:
        self.service = service

    def route(self, *arguments: str) -> None:
        """`python -m weights route emoji …`, as in docs/rollout.md."""
        command = ("python3", "-m", "weights", "route", "emoji", *arguments, "--store", "/mnt/models/loras")
        self.service.cluster.kubectl("exec", "-n", self.service.namespace, "weights-shell", "--", *command)

    def in_force(self) -> list[dict[str, int]]:
        """The shares that the predictors tell of, each of them."""
        namespace, found = self.service.namespace, []
        for pod in self.service.ready_pods("predictor"):
            path = f"/api/v1/namespaces/{namespace}/pods/{pod.metadata.name}:{PREDICTOR_PORT}/proxy"
            model = json.loads(self.service.cluster.kubectl("get", "--raw", f"{path}/v2/models/emoji"))
            found.append(model.get("parameters", {}).get("route", {}))
        return found

    def set(self, shares: dict[str, int]) -> None:
        """And wait until it is in force."""
        self.route(*(f"{version}={percent}" for version, percent in shares.items()))
        until(f"{shares} in force", lambda: self.in_force() == [shares], TAKEN_UP_S)

    def delete(self) -> None:
        """And wait until it is gone."""
        self.route("--delete")
        until("no alias in force", lambda: self.in_force() == [{}], TAKEN_UP_S)


@pytest.fixture
def alias(emoji: Service) -> Iterator[Alias]:
    cluster, namespace = emoji.cluster, emoji.namespace
    shell = (ROOT / "weights/shell.yaml").read_text(encoding="utf-8").replace("dev.local", REGISTRY)
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=shell)
    try:
        cluster.kubectl(
            "wait", "-n", namespace, "pod/weights-shell", "--for=condition=Ready", "--timeout=5m", timeout=330
        )
        found = Alias(emoji)
        yield found
        if found.in_force() != [{}]:  # of a test that failed: the others' looks depend on it
            found.delete()
    finally:
        cluster.kubectl("delete", "-n", namespace, "pod", "weights-shell", "--grace-period=1")


def test_weighted_alias(emoji: Service, alias: Alias, evidence: Section) -> None:
    """A weighted alias changed live: each key has its version, in one pod that stays; 0 failed requests"""
    (before,) = emoji.ready_pods("predictor")
    with Load(emoji.ingress(), LIGHT, 0.3) as load:
        for percent in (50, 10):
            shares = {STABLE: 100 - percent, CANARY: percent}
            alias.set(shares)
            outcomes = burst(emoji.ingress(), KEYED, len(KEYED), 2)
            evidence.load(f"{len(KEYED)} keys at {percent} %", outcomes)
            assert failed(outcomes) == []
            for outcome in outcomes:
                assert outcome.reply is not None
                assert outcome.question.key is not None
                assert outcome.reply.lora == choose("emoji", shares, outcome.question.key)
            assert emoji.traffic() == {STABLE: 100}
        status, said = emoji.rollout("canary", "--to", CANARY, "--percent", "10")
        evidence.fact("rollout canary meanwhile", said.splitlines())
        assert status == 1
        assert "`python -m weights route emoji --delete`" in said
        alias.delete()
        outcomes = burst(emoji.ingress(), KEYED, 6, 2)
        assert by_lora(outcomes) == {STABLE: 6}
    evidence.load("load of 0.3/s meanwhile", load.outcomes)
    assert failed(load.outcomes) == []
    (after,) = emoji.ready_pods("predictor")
    assert after.metadata.uid == before.metadata.uid
    assert [c.restart_count for c in after.status.container_statuses] == [
        c.restart_count for c in before.status.container_statuses
    ]


def test_the_keys_have_both_versions_at_every_share() -> None:
    for percent in (50, 10):
        drawn = {choose("emoji", {STABLE: 100 - percent, CANARY: percent}, q.key or "") for q in KEYED}
        assert drawn == {STABLE, CANARY}
