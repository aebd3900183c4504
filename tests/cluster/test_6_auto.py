"""`rollout auto` judges by itself: a good version gets all the traffic, a bad one is taken back."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.cluster import until
from tests.cluster.load import Load, by_lora, failed
from tests.cluster.looks import CANARY, STABLE
from tests.cluster.questions import LIGHT
from tests.cluster.report import Section
from tests.cluster.service import START_S, Service

pytestmark = pytest.mark.cluster

STEPS = ("--steps", "30,100", "--every", "20s", "--min-requests", "5", "--max-error-rate", "5%")
RATE = 0.7


def test_good_version(emoji: Service, evidence: Section) -> None:
    """`rollout auto` promotes a good version, under load: 0 failed requests"""
    with Load(emoji.ingress(), LIGHT, RATE) as load:
        status, said = emoji.rollout("auto", "--to", CANARY, *STEPS, "--max-p95", "60s")
        evidence.fact("rollout auto", said.splitlines())
        assert status == 0, said
    evidence.load(f"load of {RATE}/s", load.outcomes)
    assert failed(load.outcomes) == []
    assert by_lora(load.outcomes).keys() == {STABLE, CANARY}
    assert emoji.traffic() == {CANARY: 100}
    status, said = emoji.rollout("rollback")
    assert status == 0, said
    assert emoji.traffic() == {STABLE: 100}


def test_failing_version(emoji: Service, evidence: Section) -> None:
    """`rollout auto` rolls back a version that answers errors, and says so"""
    model = emoji.spec()["spec"]["predictor"]["model"]
    # As a commit of somebody's would do it: the look, its share, and a mistake.
    broken = model | {
        "env": [{"name": "DEFAULT_LOOK", "value": CANARY}],
        "args": ["--request_timeout=0.05"],
    }
    try:
        with Load(emoji.ingress(), LIGHT, RATE) as load:
            emoji.ask_for_canary(broken, 30)
            status, said = emoji.rollout("auto", "--to", CANARY, *STEPS, "--max-p95", "60s")
            evidence.fact("rollout auto", said.splitlines())
            assert status == 2, said
            assert "error" in said
            after = load.clock
        evidence.load(f"load of {RATE}/s", load.outcomes)
        assert failed(load.outcomes), "the version answered no request, so nothing was tested"
        assert failed([o for o in load.outcomes if o.sent > after]) == []
        assert emoji.traffic() == {STABLE: 100}
    finally:
        emoji.repair(model)
    status, said = emoji.rollout("rollback")
    evidence.fact("rollout rollback, after the repair", said.splitlines())
    assert status == 0, said
    assert emoji.traffic() == {STABLE: 100}
    emoji.wait()


def test_slow_version(emoji: Service, evidence: Section) -> None:
    """`rollout auto` rolls back a version that is slow: its pods get a twentieth of a core"""
    with Load(emoji.ingress(), LIGHT, RATE) as load, starved(emoji, CANARY, evidence):
        status, said = emoji.rollout("auto", "--to", CANARY, *STEPS, "--max-p95-times-stable", "3")
        evidence.fact("rollout auto", said.splitlines())
        assert status == 2, said
        assert "p95" in said
    evidence.load(f"load of {RATE}/s", load.outcomes)
    assert failed(load.outcomes) == []
    assert emoji.traffic() == {STABLE: 100}
    emoji.wait()


@contextmanager
def starved(service: Service, look: str, evidence: Section) -> Iterator[None]:
    """As soon as a new pod of this look is ready it is resized, in place, to a twentieth of a core."""
    stop = threading.Event()
    former = {pod.metadata.name for pod in service.pods("predictor")}  # an earlier canary's may be there yet

    def resize() -> None:
        def pod_of_look() -> Any:
            return stop.is_set() or next(
                (
                    pod
                    for pod in service.ready_pods("predictor")
                    if pod.metadata.name not in former and service.look_of(pod) == look
                ),
                None,
            )

        pod = until(f"a pod of {look} is ready", pod_of_look, START_S, every=0.2)
        if pod is True:
            return
        small = {"cpu": "50m"}
        change = {
            "spec": {
                "containers": [
                    {"name": "kserve-container", "resources": {"requests": small, "limits": small}}
                ]
            }
        }
        service.cluster.kubectl(
            "patch",
            "pod",
            "-n",
            service.namespace,
            pod.metadata.name,
            "--subresource=resize",
            "-p",
            json.dumps(change),
        )
        evidence.fact("resized to 50m CPU", pod.metadata.name)

    thread = threading.Thread(target=resize)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
