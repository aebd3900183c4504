"""The predictor over gRPC; tensors travel as raw bytes."""

import asyncio
from collections.abc import Mapping
from typing import Any

import grpc
import kserve.errors
from kserve import InferRequest, InferResponse
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelMetadataRequest, ModelReadyRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.errors import UpstreamError, UpstreamUnavailable
from transformer.settings import Settings
from transformer.upstream.base import PROBE_TIMEOUT_S, Connected, Upstream, refused

_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}

PING_S, PONG_S = 10.0, 5.0
"""While a call is under way the connection is tried so often, and given up when it takes so long to answer: a
node that vanished says nothing, and TCP would wait for it for a quarter of an hour."""


class GrpcUpstream(Upstream):
    """The predictor over gRPC."""

    call = "inference.GRPCInferenceService/ModelInfer"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._connect_timeout_s = settings.predictor_connect_timeout
        target = settings.predictor_host
        if ":" not in target:
            target = f"{target}:{443 if settings.predictor_use_ssl else 80}"
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_retries", 0),
            # A predictor that comes back is noticed within a second.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1000),
            ("grpc.keepalive_time_ms", int(PING_S * 1000)),
            ("grpc.keepalive_timeout_ms", int(PONG_S * 1000)),
            ("grpc.http2.ping_timeout_ms", int(PONG_S * 1000)),  # a shorter keepalive_timeout is not heeded
            ("grpc.http2.max_pings_without_data", 0),  # a long draw sends nothing: ping on all the same
            # The Service of a Standard deployment may be headless: every pod gets its share.
            ("grpc.lb_policy_name", "round_robin"),
        ]
        if settings.predictor_use_ssl:
            ca_file = settings.predictor_ca_file
            credentials = grpc.ssl_channel_credentials(ca_file.read_bytes() if ca_file else None)
            self._channel = grpc.aio.secure_channel(target, credentials, options=options)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=options)
        self._stub = GRPCInferenceServiceStub(self._channel)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _infer(
        self, request: InferRequest, headers: dict[str, str], limit_s: float, connected: Connected
    ) -> InferResponse:
        reply = await self._call(self._stub.ModelInfer, request.to_grpc(), headers, limit_s, connected)
        try:
            return InferResponse.from_grpc(reply)
        except kserve.errors.InvalidInput:
            raise UpstreamError("the predictor's answer cannot be read") from None

    async def _ready(self, model_name: str) -> bool:
        reply = await self._call(
            self._stub.ModelReady, ModelReadyRequest(name=model_name), {}, PROBE_TIMEOUT_S
        )
        return bool(reply.ready)

    async def _metadata(self, model_name: str, connected: Connected) -> dict[str, Any]:
        request = ModelMetadataRequest(name=model_name)
        reply = await self._call(self._stub.ModelMetadata, request, {}, PROBE_TIMEOUT_S, connected)
        return {
            "name": reply.name,
            "versions": list(reply.versions),
            "platform": reply.platform,
            "inputs": [_tensor_metadata(tensor) for tensor in reply.inputs],
            "outputs": [_tensor_metadata(tensor) for tensor in reply.outputs],
        }

    async def _call(
        self,
        method: Any,
        message: Any,
        headers: Mapping[str, str],
        limit_s: float,
        connected: Connected = lambda: None,
    ) -> Any:
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._connect_timeout_s)
        except TimeoutError:
            raise UpstreamUnavailable("the predictor cannot be reached") from None
        connected()
        try:
            # A second more than our own limit, so that ours comes first; it tells the predictor when to stop.
            return await method(message, metadata=tuple(headers.items()), timeout=limit_s + 1)
        except grpc.aio.AioRpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            status = _HTTP_STATUS.get(error.code(), 500)
            if status == 429 and "retry-after" not in trailing:
                status = 413  # the one other resource that gRPC exhausts is a message's length
            raise refused(status, error.details() or "", trailing) from None
        except grpc.aio.UsageError:
            raise UpstreamUnavailable("the connection to the predictor is closed") from None


def _tensor_metadata(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
