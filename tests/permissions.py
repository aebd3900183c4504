"""A path that may not be read, also where the tests run as root."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def shut(path: Path, mode: int = 0) -> Iterator[None]:
    """Within it `path` has this mode, and the process is nobody of importance."""
    modes = {path: path.stat().st_mode}
    path.chmod(mode)
    root = os.geteuid() == 0
    if root:
        for parent in path.parents:  # pytest's own folder is its user's alone
            modes[parent] = parent.stat().st_mode
            if modes[parent] & 0o011 != 0o011:
                parent.chmod(modes[parent] | 0o011)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for changed, before in modes.items():
            changed.chmod(before)
