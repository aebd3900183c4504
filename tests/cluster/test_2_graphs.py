"""The InferenceGraphs of manifests/graphs over the deployed service: A/B test, sequence, ensemble."""

import asyncio
from typing import Any

import pytest

from tests.cluster.cluster import until
from tests.cluster.load import burst, by_lora, failed
from tests.cluster.looks import CANARY, STABLE
from tests.cluster.modes import only_knative
from tests.cluster.pictures import Ingress, Question, Reply
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import START_S, Service

GRAPHS = "serving.kserve.io/v1alpha1"
UNKNOWN = Question("뷁뷁 사과", seed=1, steps=4, guidance=1.0)
"""With a word that no glossary has."""


def ask(ingress: Ingress, question: Question) -> Any:
    """The whole JSON of a reply."""

    async def run() -> Any:
        async with ingress.http() as client:
            return await ingress.v2_json(client, question)

    return asyncio.run(run())


@pytest.mark.cluster
@only_knative
def test_graphs(emoji: Service, evidence: Section) -> None:
    """InferenceGraphs: each of the two looks by the splitter, the second opinion, both looks at once"""
    cluster = emoji.cluster
    with cluster.namespace("t-graphs") as namespace:
        rendered = cluster.kubectl("kustomize", "manifests/graphs")
        moved = rendered.replace("emoji-graphs", namespace).replace(".emoji.svc", f".{emoji.namespace}.svc")
        assert moved.count(f".{emoji.namespace}.svc") == 6
        cluster.kubectl("apply", "-f", "-", stdin=moved)

        def host(name: str) -> str:
            graph = cluster.object(GRAPHS, "inferencegraphs", namespace, name)
            return str(graph.get("status", {}).get("url", "")).partition("://")[2]

        graphs = {}
        for name in ("splitter", "sequence", "ensemble"):
            known = until(f"the graph {name} has a URL", lambda name=name: host(f"emoji-{name}"), START_S)
            graphs[name] = Ingress(emoji.ingress().address, known, known)
        evidence.fact("hosts", {name: ingress.host for name, ingress in graphs.items()})

        outcomes = burst(graphs["splitter"], LIGHT, 20, 2)
        evidence.load("splitter 80:20", outcomes)
        assert failed(outcomes) == []
        assert set(by_lora(outcomes)) <= {STABLE, CANARY}
        assert by_lora(outcomes)[STABLE] >= 8  # fewer of 20 at 80 %: once in 60,000 runs

        for question, lora in ((LIGHT[0], STABLE), (UNKNOWN, CANARY)):
            reply = Reply.of_v2(ask(graphs["sequence"], question))
            evidence.picture(f"sequence: “{question.prompt}”, {reply.lora}", reply.png)
            assert reply.lora == lora

        both = ask(graphs["ensemble"], LIGHT[0])
        assert set(both) == {"notoemoji", "openmoji"}
        for look, body in both.items():
            reply = Reply.of_v2(body)
            evidence.picture(f"ensemble: “{LIGHT[0].prompt}”, {reply.lora}", reply.png)
            assert reply.lora == f"{look}@1"
