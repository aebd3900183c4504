"""The command in a process of its own, where it is interrupted, killed, or not alone."""

import datetime
import signal

import pytest

from tests.rollout.command import BAD, NOTO, read_until, run, shares, start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_what_is_there_and_says_what(server, number):
    process = start("canary", "--to", BAD, "--percent", "10")
    read_until(process, "waiting")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err.startswith("stopped: interrupted. Now: notoemoji@1 has 100 %")
    assert shares() == {NOTO: 100}
    assert not server.leases()
    assert run("rollback")[0] == 0


def test_an_interrupt_while_the_api_server_is_down_is_one_all_the_same(server):
    process = start("canary", "--to", BAD, "--percent", "10")
    read_until(process, "waiting")
    server.down = True
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert err.startswith("stopped: interrupted. Now: not known (")


def test_a_second_rollout_is_refused_while_one_is_at_work_and_not_after_it_died(server):
    process = start("canary", "--to", BAD, "--percent", "10")
    read_until(process, "waiting")
    code, _, err = run("rollback")
    assert code == 1
    assert "another rollout is at work" in err
    process.kill()
    process.communicate()
    (lease,) = server.leases()
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=61)
    lease["spec"]["renewTime"] = long_ago.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    server.simulated.store.replace(lease)
    assert run("rollback")[0] == 0
    assert not server.leases()
