"""A span for every request for pictures, around all that the edge does with it; none for probes."""

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import grpc
from grpc_interceptor.server import AsyncServerInterceptor
from opentelemetry.trace import Span

from predictor.edge.gate import App, Message, Receive, Send, asks_for_pictures
from predictor.edge.spans import fail, server_span

INFER = "/ModelInfer"
"""The end of the name of the one gRPC method that draws."""

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_OURS = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE}
"""What says that the server has failed, not the caller; so do 5xx over HTTP."""


class TracedApp:
    """Wraps an ASGI application."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http" or not asks_for_pictures(scope):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        attributes = {
            "http.request.method": scope["method"],
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        }
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with server_span(scope["method"], headers, attributes) as span:
            try:
                await self._app(scope, receive, send_on)
            finally:
                _describe(span, scope, status)


def _describe(span: Span, scope: MutableMapping[str, Any], status: int) -> None:
    """The name by the route, which is known once the request was routed, and how it ended."""
    route = getattr(scope.get("route"), "path_format", None)
    if route is not None:
        span.update_name(f"{scope['method']} {route}")
        span.set_attribute("http.route", route)
    if status:
        span.set_attribute("http.response.status_code", status)
    if status == 0 or status >= 500:
        fail(span, str(status) if status else "client_disconnected")


class TracedCalls(AsyncServerInterceptor):
    """The gRPC interceptor, outermost."""

    async def intercept(
        self, method: Callable[..., Any], request: Any, context: Any, method_name: str
    ) -> Any:
        """Serve one call."""
        if not method_name.endswith(INFER):
            return await method(request, context)
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        attributes = {"rpc.system.name": "grpc", "rpc.method": method_name.removeprefix("/")}
        with server_span(method_name.removeprefix("/"), headers, attributes) as span:
            code = grpc.StatusCode.CANCELLED
            try:
                reply = await method(request, context)
                code = grpc.StatusCode.OK
                return reply
            except asyncio.CancelledError:
                fail(span, code.name)
                raise
            except Exception:  # the status has been set by then
                code = _CODES.get(context.code(), grpc.StatusCode.UNKNOWN)
                if code in _OURS:
                    fail(span, code.name)
                raise
            finally:
                span.set_attribute("rpc.response.status_code", code.name)
