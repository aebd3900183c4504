"""Work that only copies pixels: on the event loop where it is short, else beside it.

It doesn't know what the pixels are for.
"""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

SHORT = 2**20
"""Bytes that are copied, or written in base64, in about a millisecond; the way to a thread and back takes
half of one where the processor has other work.
"""

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def copy_pixels(
    size: int, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """What `work` gives, which copies so many bytes."""
    if size <= SHORT:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)
