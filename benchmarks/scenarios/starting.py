"""Cold start: from the start of the process until the server takes jobs, beside the bare imports."""

import subprocess
import sys
import time

from benchmarks.bench import Bench
from benchmarks.process import ROOT

NAME = "starting"
IMPORTS = "import torch, diffusers"
CASE = "until ready"


def measure(bench: Bench) -> None:
    """Record the seconds of the imports and of every side."""
    for repeat, side in bench.repeats([IMPORTS, *bench.settings.start_sides]):
        if side == IMPORTS:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True)
            seconds = time.perf_counter() - began
        else:
            with bench.launch(bench.commands[side]) as server:
                seconds = server.wait_until_ready(bench.settings.ready_timeout)
        bench.record(NAME, CASE, side, repeat, "s", ready=seconds)
