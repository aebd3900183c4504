import platform
import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource, sys, threading
import numpy as np
from predictor.allocator import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def step():
    [np.ones(megabytes << 20, np.uint8) for megabytes in (1, 8, 2, 12, 4, 16, 1)]

def count():
    for _ in range(5):
        step()
    before = faults()
    for _ in range(20):
        step()
    print((faults() - before) // 20)

assert sys.argv[1] == "as ever" or keep_freed_memory()
thread = threading.Thread(target=count)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_is_used_again_without_asking_the_kernel():
    def count(how: str) -> int:
        command = [sys.executable, "-c", PAGE_FAULTS, how]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert count("kept") < 20
    assert count("as ever") > 500
