"""Files that are whole or absent after a power cut, and reading that cannot be led astray.

Knows bytes and descriptors; does not know what the files mean.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from weights.errors import CorruptLora


def read(file: Path, limit: int) -> bytes:
    """The bytes of a regular file.

    Raises:
        CorruptLora: where it is missing, a link, a device, or larger than `limit` bytes.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        remedy = (
            "Check its permissions" if error.errno == errno.EACCES else "Restore the file from its source"
        )
        raise CorruptLora(f"cannot be read ({error.strerror})", file=file, remedy=remedy) from None
    with open(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            raise CorruptLora(f"is no regular file of at most {limit} bytes", file=file)
        return stream.read()


def write(file: Path, data: bytes) -> None:
    """Writes a new file down to the disk; its folder still needs `sync`. Raises OSError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with open(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)


def sync(folder: Path) -> None:
    """Brings the entries of a folder (new names, renames, removals) down to the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
