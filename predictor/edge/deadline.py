"""When the request under way is of no use to its caller any more, where the protocol tells: gRPC does.

It doesn't know what a request itself may say of that.
"""

import math
import time
from contextvars import ContextVar

_until: ContextVar[float] = ContextVar("until", default=math.inf)


def begin_deadline(seconds: float | None) -> None:
    """The request that begins has so many seconds from now; None: as long as it takes."""
    _until.set(math.inf if seconds is None else time.monotonic() + seconds)


def time_left() -> float:
    """Seconds that the request has yet, at least 0 and maybe infinite."""
    return max(0.0, _until.get() - time.monotonic())
