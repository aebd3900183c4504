"""The lock of a store's one writer, held by an open file: the kernel lets go of it when the process ends.

Knows nothing of what is written.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weights.errors import StoreUnavailable

LOCK = ".lock"
LOCK_SECONDS = 30.0


@contextmanager
def writer_lock(root: Path, create: bool = False) -> Iterator[None]:
    """Hold the lock of the folder `root`, which `create` makes where it isn't there.

    Raises:
        StoreUnavailable: another writer holds it for too long, or the file system refuses the lock or what is
            written under it.
    """
    try:
        if create:
            root.mkdir(parents=True, exist_ok=True)
        lock = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _acquire(lock, root)
            yield
        finally:
            os.close(lock)
    except OSError as error:
        raise StoreUnavailable(
            f"cannot be written ({error.strerror})",
            file=error.filename or root,
            remedy="Check the folder's permissions and free space; nothing is left half written",
        ) from error


def _acquire(lock: int, root: Path) -> None:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            if time.monotonic() > deadline:
                raise StoreUnavailable(
                    f"another writer has held the lock for {LOCK_SECONDS:.0f} s",
                    file=root,
                    remedy="Wait for it to finish",
                ) from None
        time.sleep(0.05)
