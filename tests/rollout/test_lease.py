import pytest

from rollout import lease as module
from rollout.errors import NotFound, Refused, Unavailable
from rollout.lease import Lease
from tests.rollout.object_store import ObjectStore


class Slow(ObjectStore):
    """Writes arrive, and some of their answers don't."""

    answers = True

    def replace(self, body):
        written = super().replace(body)
        if not self.answers:
            raise Unavailable("timed out")
        return written


@pytest.fixture(autouse=True)
def _renew_each_time(monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.0)


def test_a_lease_is_held_by_one_and_gone_after_it():
    store = ObjectStore()
    with Lease(store, "emoji") as lease:
        lease.renew()
        with pytest.raises(Refused, match="another rollout is at work"), Lease(store, "emoji"):
            pass
        lease.renew()
    with pytest.raises(NotFound):
        store.get("Lease", "emoji-rollout")


def test_a_renewal_whose_answer_was_lost_is_ours():
    store = Slow()
    with Lease(store, "emoji") as lease:
        store.answers = False
        lease.renew()
        store.answers = True
        lease.renew()
        lease.renew()
    assert not store.list("Lease")


def test_a_lease_whose_last_renewal_had_no_answer_is_gone_after_it_all_the_same():
    store = Slow()
    with Lease(store, "emoji") as lease:
        store.answers = False
        lease.renew()
    assert not store.list("Lease")


def test_a_lease_that_another_took_is_not_renewed_and_not_deleted():
    store = ObjectStore()
    with Lease(store, "emoji") as lease:
        theirs = store.get("Lease", "emoji-rollout")
        store.replace({**theirs, "spec": {**theirs["spec"], "holderIdentity": "another"}})
        with pytest.raises(Refused, match="took over"):
            lease.renew()
    assert store.get("Lease", "emoji-rollout")["spec"]["holderIdentity"] == "another"


def test_of_two_that_begin_at_once_one_is_refused(monkeypatch):
    store = ObjectStore()
    with Lease(store, "emoji"):

        def not_there_yet(kind, name):
            raise NotFound("…")

        monkeypatch.setattr(store, "get", not_there_yet)
        with pytest.raises(Refused, match="just begun"), Lease(store, "emoji"):
            pass
        monkeypatch.undo()
