"""Pods die, are evicted and are told to stop, while requests are on their way: none may be lost."""

import time
from collections.abc import Iterator

import pytest
from kubernetes import client
from kubernetes.client import ApiException

from tests.cluster.cluster import until
from tests.cluster.load import Load, Outcome, failed
from tests.cluster.questions import LONG
from tests.cluster.report import Section
from tests.cluster.service import START_S, Service

pytestmark = pytest.mark.cluster


AT_ONCE = 2
"""As many requests as predictor pods are always under way."""

NOTICED_S = 5.0
"""How long a gateway may go on sending requests to a pod that is gone without a word."""


@pytest.fixture(scope="module")
def two_pods(deployed: Service) -> Iterator[Service]:
    """Two pods of each part: what a service has that must not be away while a node is drained."""
    deployed.hold(2)
    settle(deployed)
    yield deployed
    deployed.hold(1)


def settle(service: Service) -> None:
    """Until each part has two ready pods and no other."""
    for component in service.parts:
        until(
            f"two pods of the {component}",
            lambda component=component: (
                len(service.ready_pods(component)) == len(service.pods(component)) == 2
            ),
            START_S,
        )


def until_it_draws(service: Service, pod: str) -> int:
    """How many pictures a pod is drawing, as soon as it draws any."""
    return int(until(f"{pod} draws", lambda: service.drawing(pod), 120, every=0.05))


def test_killed_predictor(two_pods: Service, evidence: Section) -> None:
    """A predictor pod is killed without grace under load: 0 requests lost, where a transformer asks again"""
    killed: list[float] = []
    with Load(two_pods.ingress(), LONG, at_once=AT_ONCE) as load:
        time.sleep(10)
        for _ in range(2):
            victim = two_pods.ready_pods("predictor")[0].metadata.name
            rows = until_it_draws(two_pods, victim)
            killed.append(load.clock)
            two_pods.cluster.core.delete_namespaced_pod(victim, two_pods.namespace, grace_period_seconds=0)
            evidence.fact(f"killed at {killed[-1]:.1f} s", f"{victim}, which was drawing {rows}")
            settle(two_pods)
            evidence.fact("until two were ready again, s", round(load.clock - killed[-1], 1))
    evidence.load(f"load of {AT_ONCE} requests at once", load.outcomes)
    outcomes = load.outcomes
    if "transformer" not in two_pods.parts:
        # It was in the same pod: nobody asks again for what that pod had under way. All else must succeed.
        outcomes = [o for o in outcomes if not any(struck(o, at) for at in killed)]
        evidence.fact("requests that the pods took with them", len(failed(load.outcomes)))
    assert failed(outcomes) == []


def struck(outcome: Outcome, killed: float) -> bool:
    """Whether a request was on its way when a pod was killed, or sent before the gateway could notice."""
    return outcome.sent - NOTICED_S <= killed <= outcome.sent + outcome.took


def test_drained_node(two_pods: Service, evidence: Section) -> None:
    """All pods of the service are evicted one by one, as `kubectl drain` does it: 0 requests lost"""
    with Load(two_pods.ingress(), LONG, at_once=AT_ONCE) as load:
        time.sleep(5)
        for component in two_pods.parts:
            for pod in two_pods.ready_pods(component):
                name = pod.metadata.name
                rows = until_it_draws(two_pods, name) if component == "predictor" else AT_ONCE
                evict(two_pods, name)
                evidence.fact(f"evicted at {load.clock:.1f} s", f"{name}, with {rows} requests under way")
                settle(two_pods)
    evidence.load(f"load of {AT_ONCE} requests at once", load.outcomes)
    assert failed(load.outcomes) == []


def evict(service: Service, pod: str) -> None:
    """Ask for an eviction until the disruption budget allows it; a drain goes on once the pod has gone."""

    def asked() -> bool:
        try:
            service.cluster.core.create_namespaced_pod_eviction(
                pod, service.namespace, client.V1Eviction(metadata=client.V1ObjectMeta(name=pod))
            )
        except ApiException as error:
            if error.status == 429:  # the budget says: not now
                return False
            raise
        return True

    until(f"{pod} may be evicted", asked, START_S, every=2)


def test_sigterm(two_pods: Service, evidence: Section) -> None:
    """The predictors' processes get SIGTERM with requests in flight: 0 requests lost"""
    with Load(two_pods.ingress(), LONG, at_once=AT_ONCE) as load:
        time.sleep(5)
        for pod in two_pods.ready_pods("predictor"):
            name = pod.metadata.name
            rows = until_it_draws(two_pods, name)
            two_pods.cluster.kubectl(
                "exec",
                "-n",
                two_pods.namespace,
                name,
                "-c",
                "kserve-container",
                "--",
                "sh",
                "-c",
                "kill -TERM 1",
            )
            evidence.fact(f"SIGTERM at {load.clock:.1f} s", f"{name}, which was drawing {rows}")
            until("its container was started again", lambda name=name: restarted(two_pods, name), START_S)
            settle(two_pods)
    evidence.load(f"load of {AT_ONCE} requests at once", load.outcomes)
    assert failed(load.outcomes) == []


def restarted(service: Service, pod: str) -> bool:
    """Whether the predictor's container ended by itself, in good order, and runs again."""
    statuses = service.cluster.core.read_namespaced_pod(pod, service.namespace).status.container_statuses
    (status,) = (status for status in statuses if status.name == "kserve-container")
    if status.restart_count == 0:
        return False
    assert status.last_state.terminated.exit_code == 0
    return True
