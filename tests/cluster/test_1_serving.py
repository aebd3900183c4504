"""The service is brought up as a user would, and draws."""

import asyncio
import time

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.looks import verdict
from tests.cluster.modes import MODE, REGISTRY, SERVICES, VALUES
from tests.cluster.pictures import Ingress, Question, Reply
from tests.cluster.questions import HEART, HEART_SHOWS
from tests.cluster.report import Section
from tests.cluster.service import Service
from weights.eval.judge import Judge

pytestmark = pytest.mark.cluster

PROTOCOLS = ("v2", "v1", "gRPC")


def ask(ingress: Ingress, protocol: str, question: Question) -> Reply:
    async def run() -> Reply:
        if protocol == "gRPC":
            return await ingress.grpc(question)
        async with ingress.http() as client:
            return await (ingress.v2 if protocol == "v2" else ingress.v1)(client, question)

    return asyncio.run(run())


def check_pictures(service: Service, judge: Judge, evidence: Section) -> None:
    """A Korean sentence by every protocol, in the default look and in one asked for, judged."""
    ingress = service.ingress()
    evidence.fact("REST host", ingress.host)
    evidence.fact("gRPC host", ingress.grpc_host)
    for look, model in (("notoemoji", "emoji"), ("openmoji", "openmoji")):
        for protocol in PROTOCOLS:
            question = HEART.of(model)
            reply = ask(ingress, protocol, question)
            seen = verdict(judge, reply.pixels)
            evidence.picture(f"{protocol} {model}: “{HEART.prompt}”, {reply.lora}", reply.png)
            evidence.fact(
                f"{protocol} {model}", f"{reply.english!r} by {reply.lora}: {seen.char} in {seen.look}"
            )
            assert reply.lora == f"{look}@1"
            assert (seen.char, seen.look) == (HEART_SHOWS, look)


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
