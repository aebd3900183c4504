"""The service is brought up as a user would, and draws."""

import io
import re
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.cluster.cluster import Cluster, run, until
from tests.cluster.drawing import ask, check_pictures
from tests.cluster.knative import KnativeService
from tests.cluster.looks import CANARY, STABLE
from tests.cluster.modes import MODE, REGISTRY, SERVICES, VALUES, only_knative
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import START_S, Service
from weights.eval.judge import Judge

pytestmark = pytest.mark.cluster

CHART = "helm/emoji-diffusion"


def test_kustomize(emoji: Service, judge: Judge, evidence: Section) -> None:
    """`kubectl apply -k`: Ready, and a Korean sentence by v2, v1 and gRPC gives the right picture"""
    evidence.fact("seconds from apply to Ready", round(emoji.seconds_to_ready, 1))
    check_pictures(emoji, judge, evidence)


@only_knative
def test_overlay_knative(to_zero: KnativeService, evidence: Section) -> None:
    """`kubectl apply -k` of overlays/knative, which test_9_zero.py finds at zero: Ready, and a picture"""
    evidence.fact("seconds from apply to Ready", round(to_zero.seconds_to_ready, 1))
    reply = ask(to_zero.ingress(), "v2", LIGHT[0])
    evidence.picture(f"“{LIGHT[0].prompt}”, {reply.lora}", reply.png)
    assert reply.lora == STABLE


def test_helm(cluster: Cluster, judge: Judge, evidence: Section, tmp_path: Path) -> None:
    """`helm install`, its notes' curl and `helm test` in a clean namespace: the same; a canary by values"""
    with cluster.namespace("t-helm") as namespace:
        service = SERVICES[MODE](cluster, namespace)
        registry = ("--set", f"image.registry={REGISTRY}")
        began = time.monotonic()
        cluster.helm("install", "emoji", CHART, "-n", namespace, *VALUES[MODE], *registry)
        service.wait()
        evidence.fact("seconds from install to Ready", round(time.monotonic() - began, 1))
        said = cluster.helm("test", "emoji", "-n", namespace, "--logs")
        evidence.fact("helm test", said.splitlines()[-5:])
        notes = cluster.helm("get", "notes", "emoji", "-n", namespace)
        (curl,) = re.findall(r"^ +(curl (?:.*\\\n)+.*)$", notes, re.M)
        address = f"INGRESS=http://{service.ingress().address}"
        run("bash", "-euo", "pipefail", "-c", f"cd {tmp_path}; {address}; {curl}", timeout=300)
        png = (tmp_path / "fox.png").read_bytes()
        with Image.open(io.BytesIO(png)) as picture:
            assert picture.format == "PNG"
        evidence.picture("curl of the notes", png)
        check_pictures(service, judge, evidence)

        def looks() -> set[str]:
            return {service.look_of(pod) for pod in service.ready_pods("predictor")}

        def upgrade(values: str, traffic: dict[str, int]) -> None:
            cluster.helm("upgrade", "emoji", CHART, "-n", namespace, "--reuse-values", "--set", values)
            until(values, lambda: service.traffic() == traffic, START_S)

        upgrade(f"canary.look={CANARY}", {STABLE: 100})
        until("both looks have pods", lambda: looks() == {STABLE, CANARY}, START_S)
        upgrade("canary.percent=10", {STABLE: 90, CANARY: 10})
        upgrade("canary.percent=0", {STABLE: 100})
        cluster.helm("uninstall", "emoji", "-n", namespace)
