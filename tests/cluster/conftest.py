"""The cluster, the service deployed in it once for all tests, the judge, and the report."""

import os
import platform
import time
from collections.abc import Generator, Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.knative import KnativeService
from tests.cluster.looks import STABLE
from tests.cluster.modes import KNATIVE_SMALL, MODE, OUT, SERVICES
from tests.cluster.overlay import write_kustomization
from tests.cluster.report import Report, Section
from tests.cluster.service import Service
from weights.eval.judge import Judge

REPORT = pytest.StashKey[Report]()
RESULT = pytest.StashKey[pytest.TestReport]()


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture(scope="session")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="session")
def report(cluster: Cluster) -> Report:
    nodes = cluster.core.list_node().items
    return Report(
        OUT,
        {
            "mode": MODE,
            "Kubernetes": nodes[0].status.node_info.kubelet_version,
            "nodes": len(nodes),
            "cores of all nodes": sum(int(node.status.capacity["cpu"]) for node in nodes),
            "tests run on": f"{platform.machine()}, load average {os.getloadavg()[0]:.1f} at the start",
        },
    )


@pytest.fixture
def evidence(request: pytest.FixtureRequest, report: Report) -> Iterator[Section]:
    """Where a test writes what it saw; its result is added when it is known."""
    section = report.section(request.node.name.removeprefix("test_"), request.node.function.__doc__)
    began = time.monotonic()
    yield section
    section.seconds = time.monotonic() - began
    outcome = request.node.stash.get(RESULT, None)
    section.result = outcome.outcome if outcome else "not finished"
    if outcome and outcome.failed:
        section.facts["why"] = str(outcome.longrepr)[-1500:]
    report.write()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    result = yield
    if call.when == "call":
        item.stash[RESULT] = result
    return result


@pytest.fixture(scope="session")
def deployed(cluster: Cluster) -> Iterator[Service]:
    """The service of `kubectl apply -k`, in a namespace of its own."""
    with cluster.namespace("t-emoji") as namespace:
        folder = OUT / "kustomize"
        write_kustomization(folder, namespace)
        began = time.monotonic()
        cluster.kubectl("apply", "-k", str(folder))
        service = SERVICES[MODE](cluster, namespace)
        service.wait()
        service.seconds_to_ready = time.monotonic() - began
        yield service


@pytest.fixture(scope="session")
def to_zero(cluster: Cluster) -> Iterator[KnativeService]:
    """The service of `overlays/knative` itself. Its pods go after some minutes, while other tests run."""
    with cluster.namespace("t-zero") as namespace:
        folder = OUT / "kustomize-zero"
        write_kustomization(folder, namespace, (), KNATIVE_SMALL, "manifests/overlays/knative")
        began = time.monotonic()
        cluster.kubectl("apply", "-k", str(folder))
        service = KnativeService(cluster, namespace)
        service.wait()
        service.seconds_to_ready = time.monotonic() - began
        yield service


@pytest.fixture
def emoji(deployed: Service) -> Service:
    """The deployed service, with all its traffic at the first look, whatever an earlier test has left."""
    if deployed.traffic() != {STABLE: 100}:
        status, said = deployed.rollout("rollback")
        assert status == 0, said
    deployed.wait()
    assert deployed.traffic() == {STABLE: 100}
    return deployed
