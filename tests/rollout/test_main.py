"""The command against a simulated cluster behind HTTP; in a process of its own where it is interrupted."""

import datetime
import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from rollout.__main__ import main
from rollout.plan import Promote
from tests.rollout.api_server import ApiServer
from tests.rollout.simulated_knative import SimulatedKnative
from tests.rollout.simulated_standard import SimulatedStandard

NOTO, OPEN, BAD = "notoemoji@1", "openmoji@1", "openmoji@9"


@pytest.fixture(params=[SimulatedKnative, SimulatedStandard])
def server(request, tmp_path, monkeypatch):
    with ApiServer(request.param(NOTO, bad={BAD})) as running:
        (tmp_path / "config").write_text(running.kubeconfig(), encoding="utf-8")
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
        yield running


def start(*arguments):
    command = [sys.executable, "-W", "error", "-m", "rollout", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(*arguments):
    """The same in this process, which is quicker."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(arguments)
    for number, handler in before.items():
        signal.signal(number, handler)
    return code, out.getvalue(), err.getvalue()


def status():
    code, out, err = run("status", "--output", "json")
    assert (code, err) == (0, "")
    return json.loads(out)


def shares():
    return {version["look"]: version["percent"] for version in status()["versions"] if version["percent"]}


def leases(server):
    return server.simulated.store.list("Lease")


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
    assert not leases(server)


def test_a_look_that_never_gets_ready_is_rolled_back(server):
    code, out, err = run("canary", "--to", BAD, "--percent", "10", "--timeout", "2s")
    assert code == 2
    assert "rolled back openmoji@9: not there after 2 s" in err
    assert "rolling back openmoji@9" in out
    assert shares() == {NOTO: 100}
    assert status()["events"][-1]["reason"] == "RolledBack"
    assert not server.simulated.store.list("Lease")


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_what_is_there_and_says_what(server, number):
    process = start("canary", "--to", BAD, "--percent", "10")
    for line in process.stdout:
        if "waiting" in line:
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err.startswith("stopped: interrupted. Now: notoemoji@1 has 100 %")
    assert shares() == {NOTO: 100}
    assert not leases(server)
    assert run("rollback")[0] == 0


def test_an_interrupt_while_the_api_server_is_down_is_one_all_the_same(server):
    process = start("canary", "--to", BAD, "--percent", "10")
    for line in process.stdout:
        if "waiting" in line:
            break
    server.down = True
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err.startswith("stopped: interrupted. Now: not known (")


def test_a_second_rollout_is_refused_while_one_is_at_work_and_not_after_it_died(server):
    process = start("canary", "--to", BAD, "--percent", "10")
    for line in process.stdout:
        if "waiting" in line:
            break
    code, _, err = run("rollback")
    assert code == 1
    assert "another rollout is at work" in err
    process.kill()
    process.communicate()
    (lease,) = leases(server)
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=61)
    lease["spec"]["renewTime"] = long_ago.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    server.simulated.store.replace(lease)
    assert run("rollback")[0] == 0
    assert not leases(server)


def test_writes_of_others_between_reading_and_writing_are_kept(server):
    server.others = 3
    code, out, _ = run("canary", "--to", OPEN, "--percent", "10")
    assert code == 0
    assert shares() == {NOTO: 90, OPEN: 10}
    assert "reading anew" in out
    kinds = {"InferenceService", "HTTPRoute"} & {kind for kind, _ in server.simulated.store.objects}
    specs = [server.simulated.store.get(kind, "emoji")["spec"] for kind in kinds]
    assert sum(spec.get("others", 0) for spec in specs) == 3


class Pods:
    """A pod for each version, as it appears, that serves requests as its look does, for `auto` to judge."""

    def __init__(self, server, behaviour):
        self.server, self.behaviour = server, behaviour
        self._counters = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _serve(self):
        while not self._stop.wait(0.05):
            for version in self.server.simulated.cluster.read().versions():
                if version.look not in self.behaviour:
                    continue
                if version.name not in self._counters:
                    self._add(version)
                registry, requests, seconds = self._counters[version.name]
                for answer, duration in self.behaviour[version.look] if version.percent else []:
                    requests.labels("emoji", answer).inc()
                    seconds.labels("emoji").observe(duration)
                self.server.metrics[version.name] = generate_latest(registry).decode()

    def _add(self, version):
        registry = CollectorRegistry()
        requests = Counter("emoji_requests", "…", ["model", "status"], registry=registry)
        seconds = Histogram("emoji_request_seconds", "…", ["model"], buckets=(1, 2, 5), registry=registry)
        self._counters[version.name] = (registry, requests, seconds)
        labels = {"serving.knative.dev/revision": version.name, "app": f"isvc.{version.name}-predictor"}
        container = {"name": "kserve-container", "ports": [{"containerPort": 8080}]}
        self.server.simulated.store.create(
            {
                "kind": "Pod",
                "metadata": {"name": version.name, "labels": labels},
                "spec": {"containers": [container]},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }
        )


GOOD, FAILING, SLOW = [("200", 0.5), ("404", 0.1)], [("200", 0.5), ("500", 0.5)], [("200", 4.5)]
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
        for line in process.stdout:
            if "watching" in line:
                break
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
