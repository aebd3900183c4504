"""Cold start: from the start of the process until the server takes jobs, beside bare imports: of torch and
diffusers, and of all that a KServe server of such a model can't do without.
"""

import subprocess
import sys
import time

from benchmarks.bench import Bench, turns
from benchmarks.process import ROOT

NAME = "starting"
CASE = "until ready"
BARE = "import torch, diffusers"
LIBRARIES = "its libraries alone"
IMPORTS = {
    BARE: BARE,
    LIBRARIES: "import kserve, torch; from diffusers import AutoencoderKL, UNet2DConditionModel; "
    "from transformers import CLIPTextModel, CLIPTokenizer",
}


def measure(bench: Bench, repeat: int) -> None:
    """Record the seconds of the imports and of every side."""
    _import(LIBRARIES)  # so that the files of all of them are in memory
    for side in turns(repeat, [*IMPORTS, *bench.settings.start_sides]):
        with bench.forgiving(NAME, repeat):
            if side in IMPORTS:
                seconds = _import(side)
            else:
                with bench.launch(bench.commands[side]) as server:
                    seconds = server.wait_until_ready(bench.settings.ready_timeout)
            bench.record(NAME, CASE, side, repeat, "s", ready=seconds)


def _import(side: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS[side]], cwd=ROOT, check=True)
    return time.perf_counter() - began
