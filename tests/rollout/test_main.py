"""The command against a simulated cluster behind HTTP: canary, promote, rollback, and what is refused."""

from tests.rollout.command import BAD, NOTO, OPEN, run, shares, status


def test_there_and_back(server):
    assert run("canary", "--to", OPEN, "--percent", "10")[0] == 0
    assert shares() == {NOTO: 90, OPEN: 10}
    code, out, _ = run("canary", "--to", OPEN, "--percent", "10")
    assert code == 0
    assert "nothing to do: openmoji@1 has 10 % of the traffic" in out
    assert run("promote")[0] == 0
    assert shares() == {OPEN: 100}
    assert run("rollback")[0] == 0
    assert shares() == {NOTO: 100}
    assert [event["reason"] for event in status()["events"]] == [
        "RolloutCanary",
        "RolloutCanary",
        "RolloutPromote",
        "RolloutRollback",
    ]
    assert not server.leases()


def test_a_look_that_never_gets_ready_is_rolled_back(server):
    code, out, err = run("canary", "--to", BAD, "--percent", "10", "--timeout", "2s")
    assert code == 2
    assert "rolled back openmoji@9: not there after 2 s" in err
    assert "rolling back openmoji@9" in out
    assert shares() == {NOTO: 100}
    assert status()["events"][-1]["reason"] == "RolledBack"
    assert not server.leases()


def test_or_stays_to_be_looked_at(server):
    code, _, err = run("canary", "--to", BAD, "--percent", "10", "--timeout", "2s", "--keep")
    assert code == 3
    assert "stopped: not there after 2 s" in err
    stable, canary = status()["versions"]
    assert (stable["look"], stable["percent"]) == (NOTO, 100)
    assert (canary["look"], canary["percent"], canary["ready"]) == (BAD, 0, False)
    code, out, _ = run("status")
    assert code == 0
    assert f"not ready: {canary['problem']}" in out


def test_writes_of_others_between_reading_and_writing_are_kept(server):
    server.others = 3
    code, out, _ = run("canary", "--to", OPEN, "--percent", "10")
    assert code == 0
    assert shares() == {NOTO: 90, OPEN: 10}
    assert "reading anew" in out
    kinds = {"InferenceService", "HTTPRoute"} & {kind for kind, _ in server.simulated.store.objects}
    specs = [server.simulated.store.get(kind, "emoji")["spec"] for kind in kinds]
    assert sum(spec.get("others", 0) for spec in specs) == 3


def test_what_is_forbidden_is_said(server):
    server.refuse = {("PUT", "InferenceService"), ("POST", "InferenceService")}
    code, _, err = run("canary", "--to", OPEN, "--percent", "10")
    assert code == 1
    assert "403: user cannot" in err
    server.refuse = {("GET", "Pod")}
    assert run("status")[0] == 1


def test_a_service_that_is_not_there_is_said(server):
    code, _, err = run("status", "--service", "nobody")
    assert code == 1
    assert "there is no InferenceService nobody in test" in err
