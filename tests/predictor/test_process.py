"""The two processes before they serve."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="tells a process's signal handlers on Linux"
)
@pytest.mark.parametrize("module", ["predictor", "transformer"])
def test_sigterm_ends_a_process_that_is_still_loading(module: str) -> None:
    """In a pod it is process 1, whose SIGTERM the kernel drops while there is no handler."""
    flags = ["--model_dir", "/nowhere"] if module == "predictor" else ["--predictor_host", "nowhere"]
    with subprocess.Popen(
        [sys.executable, "-m", module, *flags], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as process:
        while not handles(process.pid, signal.SIGTERM):
            assert process.poll() is None
            time.sleep(0.005)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
        assert process.stderr is not None
        assert process.stderr.read() == ""


def handles(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (caught,) = [line.split()[1] for line in lines if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (number - 1) & 1)
