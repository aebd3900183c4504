"""The overlay `knative`, left alone since test_1_serving.py, has gone to zero by itself, and comes back."""

import time

import pytest

from tests.cluster.cluster import until
from tests.cluster.knative import KNATIVE, KnativeService
from tests.cluster.load import burst, failed
from tests.cluster.looks import STABLE, verdict
from tests.cluster.modes import only_knative
from tests.cluster.questions import HEART, HEART_SHOWS
from tests.cluster.report import Section
from weights.eval.judge import Judge

GONE_S = 900.0
"""The transformer's minute, five more for its last pod, then the predictor's; most of it passed meanwhile."""
AUTOSCALING = "autoscaling.knative.dev"
WINDOWS = {
    f"{AUTOSCALING}/window": "60s",
    f"{AUTOSCALING}/scale-to-zero-pod-retention-period": "5m",
    f"{AUTOSCALING}/min-scale": "0",
}


@pytest.mark.cluster
@only_knative
def test_from_zero(to_zero: KnativeService, judge: Judge, evidence: Section) -> None:
    """overlays/knative has no pods when left alone; the first request from zero gives the right picture"""
    for revision in to_zero.cluster.objects(KNATIVE, "revisions", to_zero.namespace):
        annotations = revision["metadata"]["annotations"]
        assert {name: annotations.get(name) for name in WINDOWS} == WINDOWS
    began = time.monotonic()
    until("there are no pods", lambda: not any(map(to_zero.pods, to_zero.parts)), GONE_S, every=2)
    evidence.fact("waited for the last pod to go, s", round(time.monotonic() - began, 1))
    (first,) = burst(to_zero.ingress(), [HEART], 1, 1)
    assert failed([first]) == []
    assert first.reply is not None
    evidence.fact("first request from zero, s", round(first.took, 1))
    evidence.picture(f"from zero: “{HEART.prompt}”, {first.reply.lora}", first.reply.png)
    assert first.reply.lora == STABLE
    assert verdict(judge, first.reply.pixels).char == HEART_SHOWS
