"""`auto` by command: it promotes a good look, rolls a bad one back, and stops where it cannot judge."""

import re
import threading
import time

import pytest

from rollout.plan import Promote
from tests.rollout.command import NOTO, OPEN, read_until, run, shares, start, status
from tests.rollout.pods import FAILING, GOOD, SLOW, Pods

AUTO = ("auto", "--to", OPEN, "--steps", "10,50,100", "--every", "1s", "--max-p95", "2s")


def test_auto_promotes_a_good_look(server):
    with Pods(server, {NOTO: GOOD, OPEN: GOOD}):
        code, out, err = run(*AUTO)
        assert (code, err) == (0, "")
        assert [f"openmoji@1 at {percent} % is good" in out for percent in (10, 50, 100)] == [True] * 3
        assert shares() == {OPEN: 100}
        code, out, _ = run(*AUTO)
        assert code == 0
        assert "nothing to do: openmoji@1 has all the traffic" in out


@pytest.mark.parametrize(("behaviour", "why"), [(FAILING, "error rate 50.0% > 1.0%"), (SLOW, "p95 4.8")])
def test_auto_rolls_a_bad_look_back_and_says_why(server, behaviour, why):
    with Pods(server, {NOTO: GOOD, OPEN: behaviour}):
        code, _, err = run(*AUTO)
    assert code == 2
    assert f"at 10 %: {why}" in err
    assert why in status()["events"][-1]["message"]
    assert shares() == {NOTO: 100}


def test_auto_rolls_back_what_is_bad_with_all_the_traffic(server):
    behaviour = {NOTO: GOOD, OPEN: GOOD}
    with Pods(server, behaviour):
        process = start(*AUTO)
        for line in process.stdout:
            if "watching openmoji@1 at 100 %" in line:
                behaviour[OPEN] = FAILING
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "at 100 %: error rate" in err
    assert shares() == {NOTO: 100}


def test_auto_begins_at_the_share_that_is_there(server):
    with Pods(server, {NOTO: GOOD, OPEN: GOOD}):
        assert run("canary", "--to", OPEN, "--percent", "70")[0] == 0
        code, out, err = run(*AUTO)
    assert (code, err) == (0, "")
    assert re.findall(r"watching openmoji@1 at (\d+) %", out) == ["70", "100"]


def test_auto_goes_on_with_a_promotion_that_was_interrupted(server):
    with Pods(server, {NOTO: GOOD, OPEN: GOOD}):
        assert run("canary", "--to", OPEN, "--percent", "10")[0] == 0
        server.controllers, controllers = (), server.controllers
        cluster = server.simulated.cluster
        cluster.write(cluster.read().plan(Promote()))
        threading.Timer(1, setattr, (server, "controllers", controllers)).start()
        code, out, err = run(*AUTO)
    assert (code, err) == (0, "")
    assert "openmoji@1 at 100 % is good" in out
    assert shares() == {OPEN: 100}


def test_auto_does_not_go_on_while_a_pod_hangs(server):
    with Pods(server, {NOTO: GOOD, OPEN: GOOD * 20}):
        process = start(*AUTO, "--every", "4s", "--max-wait", "5s")
        while (versions := server.simulated.cluster.read().versions())[-1].look != OPEN:
            time.sleep(0.02)
        canary = versions[-1].name
        while server.read[canary] < 2:
            time.sleep(0.02)
        server.hung = {canary}
        _, err = process.communicate(timeout=300)
    assert process.returncode == 3
    assert "cannot be read" in err
    assert shares() == {NOTO: 90, OPEN: 10}


def test_auto_asks_for_its_rights_before_it_changes_anything(server):
    with Pods(server, {NOTO: GOOD}):
        while not server.metrics:
            time.sleep(0.02)
        server.refuse = {("GET", "Pod/proxy")}
        code, _, err = run(*AUTO)
    assert code == 1
    assert "`auto` needs to read pods' metrics" in err
    assert shares() == {NOTO: 100}


def test_auto_begins_nothing_that_it_cannot_judge(server):
    with Pods(server, {NOTO: GOOD}):
        while not server.metrics:
            time.sleep(0.02)
        server.hung = set(server.metrics)
        code, _, err = run(*AUTO)
    assert code == 1
    assert "`auto` needs to read pods' metrics: pod " in err
    assert shares() == {NOTO: 100}
    assert status()["events"] == []


def test_auto_that_is_refused_on_the_way_says_what_it_leaves(server):
    server.refuse = {("GET", "Pod/proxy")}
    with Pods(server, {OPEN: GOOD}):  # scaled to zero: before the canary there is no pod to be refused
        code, _, err = run(*AUTO)
    assert code == 1
    assert err.startswith("stopped: `auto` needs to read pods' metrics: ")
    assert "openmoji@1 has 10 %" in err
    (event,) = status()["events"]
    assert event["reason"] == "RolloutStopped"
    assert "openmoji@1 has 10 %" in event["message"]
    assert shares() == {NOTO: 90, OPEN: 10}


def test_auto_does_not_judge_by_too_few_requests(server):
    with Pods(server, {NOTO: GOOD, OPEN: []}):
        code, _, err = run(*AUTO, "--max-wait", "2s")
    assert code == 3
    assert "not enough to judge openmoji@1 at 10 %" in err
    assert "0 of 20 requests seen" in err
    assert shares() == {NOTO: 90, OPEN: 10}


def test_auto_stops_where_someone_else_moves_the_traffic(server):
    with Pods(server, {NOTO: GOOD, OPEN: GOOD}):
        process = start("auto", "--to", OPEN, "--every", "60s")
        read_until(process, "watching")
        kind, change = (
            ("InferenceService", lambda body: body["spec"]["predictor"].update(canaryTrafficPercent=20))
            if server.simulated.cluster.read().mode == "Knative"
            else ("HTTPRoute", lambda body: body["spec"]["rules"][1]["backendRefs"][1].update(weight=20))
        )
        with server.simulated.store.lock:
            body = server.simulated.store.get(kind, "emoji")
            change(body)
            server.simulated.store.replace(body)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "changed by someone else" in err
