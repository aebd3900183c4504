"""A weighted alias `emoji`, which no rollout of a look can change: what would change one is refused."""

import time

import pytest

from tests.rollout.command import NOTO, OPEN, run, shares
from tests.rollout.pods import GOOD, Pods

CANARY = ("canary", "--to", OPEN, "--percent", "10")


@pytest.fixture
def serving(server):
    """The simulated cluster with a pod that is ready."""
    with Pods(server, {NOTO: GOOD}):
        while not server.metrics:
            time.sleep(0.02)
        yield server


@pytest.mark.parametrize("command", [CANARY, ("promote",), ("auto", "--to", OPEN)])
def test_it_is_refused_with_what_ends_it(serving, command):
    serving.model = {"parameters": {"route": {NOTO: 90, OPEN: 10}}}
    code, _, err = run(*command)
    assert code == 1
    assert "(notoemoji@1 90 %, openmoji@1 10 %)" in err
    assert "`python -m weights route emoji --delete`" in err
    assert shares() == {NOTO: 100}


def test_the_way_back_is_open(serving):
    assert run(*CANARY)[0] == 0
    serving.model = {"parameters": {"route": {NOTO: 90, OPEN: 10}}}
    assert run("rollback")[0] == 0
    assert shares() == {NOTO: 100}


@pytest.mark.parametrize(
    ("model", "refuse", "told"),
    [({}, set(), 0), ({"name": 7}, set(), 1), ({}, {("GET", "Pod/proxy")}, 1)],
)
def test_a_rollout_goes_on_where_there_is_none_or_nobody_says(serving, model, refuse, told):
    serving.model, serving.refuse = model, refuse
    code, out, _ = run(*CANARY)
    assert code == 0
    assert out.count("does not say whether `emoji` is a weighted alias") == told
    assert shares() == {NOTO: 90, OPEN: 10}
