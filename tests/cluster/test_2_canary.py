"""The canary from one look to the other, through the transformer, under load."""

import time

import pytest

from tests.cluster.load import Load, Outcome, burst, by_lora, failed, quantile
from tests.cluster.looks import CANARY, STABLE, References, verdict
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import Service
from weights.eval.judge import Judge

pytestmark = pytest.mark.cluster

REQUESTS = 300
AROUND_S = 10.0
"""How long the load goes on before and after a switch."""


def switch(service: Service, evidence: Section, rate: float, *command: str) -> list[Outcome]:
    """A rollout command under a constant load; returns the load's account."""
    with Load(service.ingress(), LIGHT, rate) as load:
        time.sleep(AROUND_S)
        began = load.clock
        status, said = service.rollout(*command)
        evidence.fact(f"rollout {' '.join(command)}", said.splitlines())
        evidence.fact(f"rollout {command[0]}, seconds", round(load.clock - began, 1))
        assert status == 0, said
        time.sleep(AROUND_S)
    evidence.load(f"load of {rate:.2f}/s during {command[0]}", load.outcomes)
    assert failed(load.outcomes) == []
    return load.outcomes


def test_canary(emoji: Service, judge: Judge, evidence: Section) -> None:
    """10 % canary, promotion and rollback: right shares, right looks, 0 failed requests"""
    ingress = emoji.ingress()
    references = References(ingress, LIGHT)
    for (prompt, seed, version), pixels in references.pictures.items():
        seen = verdict(judge, pixels)
        evidence.picture(f"{version}: “{prompt}”, seed {seed}", references.png[prompt, seed, version])
        assert seen.look == version.partition("@")[0], f"{prompt} by {version} looks like {seen}"

    idle = burst(ingress, LIGHT, 8, 1)
    assert failed(idle) == []
    rate = 0.3 / quantile(idle, 0.5)
    evidence.fact("one picture of the load, median s", round(quantile(idle, 0.5), 2))

    switch(emoji, evidence, rate, "canary", "--to", CANARY, "--percent", "10")
    assert emoji.traffic() == {STABLE: 90, CANARY: 10}

    outcomes = burst(ingress, LIGHT, REQUESTS, 2)
    evidence.load(f"{REQUESTS} requests at 10 %", outcomes)
    assert failed(outcomes) == []
    check_looks(outcomes, references, judge, evidence)
    share = by_lora(outcomes)[CANARY] / REQUESTS
    evidence.fact("share of the canary", f"{share:.1%}")
    assert 0.05 <= share <= 0.16
    assert set(by_lora(outcomes)) == {STABLE, CANARY}

    promoted = switch(emoji, evidence, rate, "promote")
    assert emoji.traffic() == {CANARY: 100}
    after = burst(ingress, LIGHT, 20, 2)
    assert by_lora(after) == {CANARY: 20}

    rolled_back = switch(emoji, evidence, rate, "rollback")
    assert emoji.traffic() == {STABLE: 100}
    after += burst(ingress, LIGHT, 20, 2)
    assert by_lora(after) == {CANARY: 20, STABLE: 20}
    check_looks([*promoted, *rolled_back, *after], references, judge, evidence)


def check_looks(outcomes: list[Outcome], references: References, judge: Judge, evidence: Section) -> None:
    """Every picture is the one that the version named in its reply draws, and looks like it."""
    for outcome in outcomes:
        assert outcome.reply is not None
        assert references.drawn_by(outcome.question, outcome.reply.pixels) == outcome.reply.lora
        assert verdict(judge, outcome.reply.pixels).look == outcome.reply.lora.partition("@")[0]
    evidence.fact(f"pictures in the look their reply names, of {len(outcomes)}", len(outcomes))
