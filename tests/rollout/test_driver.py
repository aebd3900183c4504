"""The way to a goal where the cluster does not do as it is told."""

import contextlib
import threading

import pytest

from rollout.driver import Driver
from rollout.errors import NotFound, TimedOut
from rollout.lease import Lease
from rollout.plan import Canary, Rollback
from tests.rollout.planning import reach
from tests.rollout.simulated_knative import SimulatedKnative
from tests.rollout.simulated_standard import SimulatedStandard

NOTO, OPEN = "notoemoji@1", "openmoji@1"


@contextlib.contextmanager
def driving(simulated, timeout):
    with Lease(simulated.store, "emoji") as lease:
        told = []
        yield Driver(simulated.cluster, lease, threading.Event(), told.append, timeout), told


def test_writes_that_someone_undoes_at_once_come_to_an_end(monkeypatch):
    simulated = SimulatedKnative(NOTO)
    monkeypatch.setattr(simulated.cluster, "write", lambda change: None)
    with driving(simulated, timeout=0.2) as (driver, _), pytest.raises(TimedOut, match="asked for 10 %"):
        driver.reach(Canary(OPEN, 10))


def test_what_another_has_just_deleted_is_read_anew(monkeypatch):
    simulated = SimulatedStandard(NOTO)
    reach(simulated, Canary(OPEN, 10))
    delete = simulated.store.delete

    def late(body):
        monkeypatch.undo()
        delete(body)
        raise NotFound("…")

    while simulated.cluster.read().percent:
        simulated.cluster.write(simulated.cluster.read().plan(Rollback()))
        simulated.settle()
    with driving(simulated, timeout=60) as (driver, told):
        monkeypatch.setattr(simulated.store, "delete", late)
        assert driver.reach(Rollback()) == "notoemoji@1 has all the traffic (emoji)"
    assert any("reading anew" in line for line in told)
