"""What a service has to draw that is ready: a Korean sentence by every protocol, in both looks, judged."""

import asyncio

from tests.cluster.looks import verdict
from tests.cluster.pictures import Ingress, Question, Reply
from tests.cluster.questions import HEART, HEART_SHOWS
from tests.cluster.report import Section
from tests.cluster.service import Service
from weights.eval.judge import Judge

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
