"""Scale to zero and back, scale out under load and in again."""

import time

import pytest

from tests.cluster.cluster import until
from tests.cluster.knative import KnativeService
from tests.cluster.load import Load, burst, failed
from tests.cluster.modes import only_knative
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import START_S, Service

pytestmark = pytest.mark.cluster

TO_ZERO_S = 420.0
"""Knative's window without a request, its grace period, and the pods' own orderly end; or the
five minutes that a HorizontalPodAutoscaler waits."""


def none_left(service: KnativeService, *components: str) -> bool:
    return not any(service.pods(component) for component in components)


@only_knative
def test_scale_to_zero(emoji: KnativeService, evidence: Section) -> None:
    """No pods without requests; the first request after that succeeds: the cold start, measured"""
    ingress = emoji.ingress()
    emoji.scale(predictor=(0, 1), transformer=(0, 1))
    try:
        assert failed(burst(ingress, LIGHT, 2, 1)) == []
        began = time.monotonic()
        until("the predictor has no pods", lambda: none_left(emoji, "predictor"), TO_ZERO_S)
        evidence.fact("last request to no predictor pod, s", round(time.monotonic() - began, 1))
        until("there are no pods", lambda: none_left(emoji, "predictor", "transformer"), TO_ZERO_S)
        evidence.fact("last request to no pod at all, s", round(time.monotonic() - began, 1))
        for attempt in (1, 2):
            (first,) = burst(ingress, LIGHT, 1, 1)
            assert failed([first]) == []
            (warm,) = burst(ingress, LIGHT, 1, 1)
            assert failed([warm]) == []
            evidence.fact(f"cold start {attempt}: first request, s", round(first.took, 1))
            evidence.fact(f"cold start {attempt}: the next, s", round(warm.took, 1))
            until("there are no pods", lambda: none_left(emoji, "predictor", "transformer"), TO_ZERO_S)
        first, *others = burst(ingress, LIGHT, 6, 6)
        assert failed([first, *others]) == []
        evidence.load("6 requests at once from zero", [first, *others])
    finally:
        emoji.hold(1)


def test_scale_out(emoji: Service, evidence: Section) -> None:
    """More than one request at once brings a second predictor pod; without load it goes again"""
    emoji.bound(1, 2)
    until("one predictor pod", lambda: len(emoji.ready_pods("predictor")) == 1, TO_ZERO_S)
    ingress = emoji.ingress()
    with Load(ingress, LIGHT, at_once=3) as load:
        until("two pods are ready", lambda: len(emoji.ready_pods("predictor")) >= 2, START_S)
        evidence.fact("start of the load to the second pod, s", round(load.clock, 1))
        pods = {pod.metadata.name for pod in emoji.ready_pods("predictor")}
    evidence.load("load of 3 requests at once", load.outcomes)
    assert failed(load.outcomes) == []
    evidence.fact("predictor pods under load", sorted(pods))
    began = time.monotonic()
    with Load(ingress, LIGHT, rate=0.1) as load:  # so that the pod that goes has requests to lose
        until("one pod is left", lambda: len(emoji.pods("predictor")) == 1, TO_ZERO_S)
        evidence.fact("end of the load to one pod, s", round(time.monotonic() - began, 1))
    evidence.load("a request every ten seconds meanwhile", load.outcomes)
    assert failed(load.outcomes) == []
    emoji.hold(1)
