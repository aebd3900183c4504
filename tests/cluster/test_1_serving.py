"""The service is brought up as a user would, and draws."""

import time

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.drawing import check_pictures
from tests.cluster.modes import MODE, REGISTRY, SERVICES, VALUES
from tests.cluster.report import Section
from tests.cluster.service import Service
from weights.eval.judge import Judge

pytestmark = pytest.mark.cluster


def test_kustomize(emoji: Service, judge: Judge, evidence: Section) -> None:
    """`kubectl apply -k`: Ready, and a Korean sentence by v2, v1 and gRPC gives the right picture"""
    evidence.fact("seconds from apply to Ready", round(emoji.seconds_to_ready, 1))
    check_pictures(emoji, judge, evidence)


def test_helm(cluster: Cluster, judge: Judge, evidence: Section) -> None:
    """`helm install` and `helm test` in a clean namespace: the same"""
    with cluster.namespace("t-helm") as namespace:
        service = SERVICES[MODE](cluster, namespace)
        registry = ("--set", f"image.registry={REGISTRY}")
        began = time.monotonic()
        cluster.helm("install", "emoji", "helm/emoji-diffusion", "-n", namespace, *VALUES[MODE], *registry)
        service.wait()
        evidence.fact("seconds from install to Ready", round(time.monotonic() - began, 1))
        said = cluster.helm("test", "emoji", "-n", namespace, "--logs")
        evidence.fact("helm test", said.splitlines()[-5:])
        check_pictures(service, judge, evidence)
        cluster.helm("uninstall", "emoji", "-n", namespace)
