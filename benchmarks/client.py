"""A client that costs little itself: where it shares cores with the servers, its work is taken from theirs.

It doesn't know jobs, nor when they are due.
"""

import json
from http.client import HTTPConnection, HTTPException
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

ERRORS = (OSError, HTTPException)
"""What its calls raise where there is no reply; a timeout is an OSError."""


class Client:
    """One connection, opened when it is first needed, for one thread at a time; `with` closes it."""

    def __init__(self, url: str, timeout: float) -> None:
        """timeout: seconds that a reply may take to begin, or to go on."""
        address = urlsplit(url)
        self._connection = HTTPConnection(address.hostname or "", address.port, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, path: str) -> int:
        """The status."""
        return self._ask("GET", path, None, {})[0]

    def post(self, path: str, content: Any) -> tuple[int, bytes]:
        """The status and the body of the reply to some JSON."""
        return self._ask("POST", path, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, headers)
            with self._connection.getresponse() as reply:
                return reply.status, reply.read()
        except ERRORS:
            self._connection.close()
            raise
