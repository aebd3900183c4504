"""The C library's allocator. It doesn't know what memory is for."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 512 * 2**20
LARGEST_BYTES = 32 * 2**20
"""The most that glibc takes; blocks beyond that are always asked of the kernel."""


def keep_freed_memory() -> bool:
    """Up to half a GiB that has been freed stays with this process; False where the C library isn't glibc.

    By itself glibc may give the activations of a step back to the kernel, and the next step gets pages that
    the kernel has to clear first: hundreds of faults a step, some milliseconds.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(M_TRIM_THRESHOLD, KEPT_BYTES) == 1
    return mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES) == 1 and kept
