"""The ASGI gate in front of the REST routes: request ids, the body's limit, cancelling for absent clients.

A route behind it is cancelled as soon as the client disconnects, so that its work stops too.
"""

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson

from predictor.edge.logs import begin_event, log
from predictor.edge.metrics import request_metrics
from predictor.errors import InvalidInput, NotReady, RequestTooLarge, ServingError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

LIST_PATH = "/v2/repository/index"
"""The one POST that asks for no picture."""

CLIENT_GONE = 499
"""What nginx logs for a client that went away; nobody receives it."""

PATIENCE = 8
"""How many times the allowed length a body may be before its connection is cut."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def request_id(given: str | None) -> str:
    """The caller's own id if it is fit for headers and logs, else a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else str(uuid.uuid4())


def asks_for_pictures(scope: Mapping[str, Any]) -> bool:
    """Whether an HTTP request is one that is counted and traced."""
    return bool(scope["method"] == "POST" and scope["path"] != LIST_PATH)


class ClientDisconnected(Exception):
    """The client closed the connection before its reply was complete."""


class Gate:
    """Wraps an ASGI application; every HTTP request is counted and gets one log line when it is done."""

    def __init__(
        self, app: App, max_body_bytes: int, is_stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """When it `is_stopping`, each reply closes its connection: the client's next one goes elsewhere."""
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._is_stopping = is_stopping

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        identity = request_id(headers.get("x-request-id"))
        fields = begin_event(identity)
        scope.setdefault("state", {})["request_id"] = identity
        status = CLIENT_GONE

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identity.encode())]
                if self._is_stopping():
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            body = await self._read(headers, receive)
            await self._run(scope, body, receive, send_with_id)
        except ServingError as error:
            fields["error"] = error.message
            await _refuse(error, send_with_id)
        except ClientDisconnected:
            pass
        except asyncio.CancelledError:
            # uvicorn's grace period is over; whoever still waits shall hear it
            if status == CLIENT_GONE:
                await _refuse(NotReady("the server is stopping"), send_with_id)
        finally:
            seconds = time.monotonic() - started
            if asks_for_pictures(scope):
                request_metrics().count(fields, status, seconds)
            level = logging.INFO if scope["method"] == "POST" or status == 500 else logging.DEBUG
            fields |= {
                "protocol": "http",
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": round(seconds * 1000, 1),
            }
            log("request done", fields, level=level)

    async def _read(self, headers: dict[str, str], receive: Receive) -> bytes:
        """The whole body; one that is too long is not kept.

        It is read on for a while all the same: closing the connection while the client still sends would
        take the refusal away from it.
        """
        too_large = RequestTooLarge(f"the body may have at most {self._max_body_bytes} bytes")
        patience = PATIENCE * self._max_body_bytes
        announced = headers.get("content-length", "0")
        if not (announced.isascii() and announced.isdigit()):
            raise InvalidInput("Content-Length", "must be a number")
        if int(announced) > patience:
            raise too_large
        chunks, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self._max_body_bytes:
                chunks.append(chunk)
            more = message.get("more_body", False)
            if size > patience or (not more and size > self._max_body_bytes):
                raise too_large
            if not more:
                return b"".join(chunks)

    async def _run(self, scope: MutableMapping[str, Any], body: bytes, receive: Receive, send: Send) -> None:
        """Run the application on a body that is already here, while listening for the client to go away."""
        gone = asyncio.create_task(_until_disconnected(receive))
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if not delivered:
                delivered = True
                return {"type": "http.request", "body": body, "more_body": False}
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        work = asyncio.ensure_future(self._app(scope, replay, send))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise ClientDisconnected
            if not work.cancelled():
                # the handler of unexpected exceptions has answered and logged; Starlette raises them again
                work.exception()
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refuse(error: ServingError, send: Send) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps({"error": error.message})})
