"""Processes under measurement: paused, weighed and ended with all that they started; probes that answer."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from benchmarks.probe import Probe
from benchmarks.process import Process, ProcessFailed

CORES = list(psutil.Process().cpu_affinity())
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
ECHO = """
import json, sys
from benchmarks.probe import replies
reply = replies()
print("this is not a reply")
for line in sys.stdin:
    question = json.loads(line)
    if question["question"] == "end":
        sys.exit("as you like")
    reply(question["words"])
"""


def statuses(processes: list[psutil.Process]) -> set[str]:
    return {process.status() for process in processes}


def wait_for(log: Path) -> str:
    while not (log.exists() and log.read_text().endswith("\n")):
        time.sleep(0.01)
    return log.read_text()


def test_a_process_is_paused_with_its_children_and_none_is_left(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Process("parent", [sys.executable, "-c", PARENT], {}, log, CORES) as process:
        family = [process.process, psutil.Process(int(wait_for(log)))]
        process.pause()
        assert statuses(family) == {psutil.STATUS_STOPPED}
        assert process.memory() > sum(each.memory_full_info().pss for each in family) // 2 > 0
        process.resume()
        assert psutil.STATUS_STOPPED not in statuses(family)
        process.pause()
    assert not any(each.is_running() for each in family)


def test_a_probe_answers_and_what_it_prints_is_no_answer(tmp_path: Path) -> None:
    with Probe("echo", [sys.executable, "-c", ECHO], {}, tmp_path / "log", CORES) as probe:
        assert probe.ask("say", words=["a", 1]) == ["a", 1]
        assert probe.ask("say", words=None) is None
        with pytest.raises(ProcessFailed, match="as you like"):
            probe.ask("end")
    assert "this is not a reply" in (tmp_path / "log").read_text()
