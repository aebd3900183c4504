"""The command, in this process or in one of its own, and what it says of the looks."""

import io
import json
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout

from rollout.__main__ import main

NOTO, OPEN, BAD = "notoemoji@1", "openmoji@1", "openmoji@9"


def start(*arguments):
    """A process of its own, which can be interrupted."""
    command = [sys.executable, "-W", "error", "-m", "rollout", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_until(process, word):
    """Take its lines up to one that holds `word`."""
    for line in process.stdout:
        if word in line:
            return


def run(*arguments):
    """The same in this process, which is quicker: exit status, output, errors."""
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
    """Percent by look, of those that have any."""
    return {version["look"]: version["percent"] for version in status()["versions"] if version["percent"]}
