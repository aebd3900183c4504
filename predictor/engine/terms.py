"""What a request asks of its service, beside what is to be drawn.

It doesn't know how a queue keeps these terms, nor how they travel.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """The same for all rows of a request.

    `timeout` is in seconds from the request's arrival; None: as long as it takes.
    `priority` orders the rows of one tenant, higher first.
    `tenant` is who asks: the server's time is shared out between tenants. "" is whoever gives no name.
    """

    timeout: float | None = None
    priority: int = 0
    tenant: str = ""
