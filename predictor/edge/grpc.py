"""gRPC: KServe's service of the Open Inference Protocol, with versions, our errors, metrics and log lines.

A call whose client has gone, or whose deadline has passed, is cancelled by gRPC, and its work with it; the
deadline is known to those who serve, see `deadline`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import grpc
from grpc_interceptor.server import AsyncServerInterceptor
from kserve import InferRequest, InferResponse
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import add_GRPCInferenceServiceServicer_to_server
from kserve.protocol.grpc.servicer import InferenceServicer

from predictor.edge.dataplane import ServingDataPlane
from predictor.edge.deadline import begin_deadline
from predictor.edge.gate import CLIENT_GONE, request_id
from predictor.edge.logs import begin_event, event, log
from predictor.edge.metrics import request_metrics
from predictor.edge.refusals import serving_error
from predictor.edge.spans import span
from predictor.edge.traced import TracedCalls
from predictor.errors import NotImplementedHere

CONNECTION_AGE_S = 60.0
"""Clients are then asked to connect anew; calls under way end where they are. A connection through a Service
of Kubernetes stays with one pod, and would never see those that were added."""

CLIENT_PING_S = 5.0
"""As often a client may ask whether the server is still there, while it waits for its pictures. gRPC's own
limit are five minutes: it would cut the connection of one that asks every ten seconds."""


class Servicer(InferenceServicer):
    """The calls in which KServe's own servicer knows no versions, or lets strangers unload a model."""

    _data_plane: ServingDataPlane

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:  # noqa: N802
        """Whether a model, or one version of it, can draw now."""
        ready = await self._data_plane.model_ready(request.name, model_version=request.version)
        return pb.ModelReadyResponse(ready=ready)

    async def ModelMetadata(  # noqa: N802
        self, request: pb.ModelMetadataRequest, context: Any
    ) -> pb.ModelMetadataResponse:
        """Inputs, outputs and versions of a model; the message has no place for parameters."""
        metadata = await self._data_plane.model_metadata(request.name, request.version)
        metadata.pop("parameters", None)
        return pb.ModelMetadataResponse(**metadata)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        """Draw; outputs are raw_output_contents."""
        begin_deadline(context.time_remaining())
        self.validate_grpc_request(request)
        infer_request = InferRequest.from_grpc(request)
        infer_request.id = request.id or event().get("request_id", "")
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        response, _ = await self._data_plane.infer(
            request.model_name, infer_request, headers, request.model_version
        )
        assert isinstance(response, InferResponse)
        with span("encode reply"):
            return response.to_grpc()

    async def RepositoryModelLoad(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Not offered: models come from the store at start-up."""
        raise NotImplementedHere("models are loaded at start-up")

    async def RepositoryModelUnload(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Not offered, as loading."""
        raise NotImplementedHere("models are loaded at start-up")


class Interceptor(AsyncServerInterceptor):
    """Turns exceptions into statuses; counts and logs every call when it is done."""

    async def intercept(
        self, method: Callable[..., Any], request: Any, context: Any, method_name: str
    ) -> Any:
        """Serve one call."""
        started = time.monotonic()
        metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        identity = request_id(metadata.get("x-request-id"))
        fields = begin_event(identity)
        status, http_status = grpc.StatusCode.OK, 200
        trailing: tuple[tuple[str, str], ...] = (("x-request-id", identity),)
        try:
            context.set_trailing_metadata(trailing)
            return await method(request, context)
        except asyncio.CancelledError:
            status, http_status = grpc.StatusCode.CANCELLED, CLIENT_GONE
            raise
        except Exception as error:
            known = serving_error(error)
            status, http_status = known.grpc_status, known.http_status
            message = known.message if known.http_status != 500 else f"{known.message} (request {identity})"
            fields["error"] = message
            trailing += tuple((name.lower(), value) for name, value in known.headers.items())
            await context.abort(status, message, trailing)
        finally:
            infer = method_name.endswith("/ModelInfer")
            seconds = time.monotonic() - started
            if infer:
                request_metrics().count(fields, http_status, seconds)
            fields |= {
                "protocol": "grpc",
                "method": method_name.rpartition("/")[2],
                "status": status.name,
                "ms": round(seconds * 1000, 1),
            }
            log("request done", fields, level=logging.INFO if infer else logging.DEBUG)


def grpc_server(
    dataplane: ServingDataPlane,
    *,
    max_request_bytes: int,
    connection_age_s: float = CONNECTION_AGE_S,
    client_ping_s: float = CLIENT_PING_S,
) -> grpc.aio.Server:
    """The gRPC server, not yet bound. Replies may have any length: what was asked for has its limits."""
    server = grpc.aio.server(
        interceptors=(TracedCalls(), Interceptor()),
        options=[
            ("grpc.max_receive_message_length", max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_connection_age_ms", int(connection_age_s * 1000)),
            ("grpc.http2.min_ping_interval_without_data_ms", int(client_ping_s * 1000)),
            # a second server on the same port is a mistake that must show
            ("grpc.so_reuseport", 0),
        ],
    )
    add_GRPCInferenceServiceServicer_to_server(Servicer(dataplane, None), server)
    return server
