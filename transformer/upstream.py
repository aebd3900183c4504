"""Talking to the predictor: the Open Inference Protocol over gRPC or REST, with time limits and safe retries.

It sends and receives KServe's request and response objects and knows nothing of what is in them. Every
failure comes out as an error of `predictor.errors` whose text is fit for the caller: no address, no inside.
"""

import asyncio
import random
import ssl
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import grpc
import httpx
import kserve.errors
import orjson
from kserve import InferOutput, InferRequest, InferResponse
from kserve.protocol.grpc.grpc_predict_v2_pb2 import ModelMetadataRequest, ModelReadyRequest
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

from predictor.errors import (
    InvalidInput,
    NotImplementedHere,
    QueueFull,
    RequestTooLarge,
    ServingError,
    UnknownModel,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from transformer.settings import Settings

FORWARDED_HEADERS = ("authorization", "x-request-id", "traceparent", "tracestate", "x-b3-traceid")
"""What of a caller's headers the predictor gets to see."""

FIRST_BACKOFF_S = 0.1
PROBE_TIMEOUT_S = 5.0

_Answer = TypeVar("_Answer")


class Upstream(ABC):
    """The predictor as seen from here. Safe for concurrent use on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._timeout_s = settings.predictor_timeout
        self._retries = settings.predictor_retries

    async def infer(
        self, request: InferRequest, headers: Mapping[str, str], timeout_s: float | None = None
    ) -> InferResponse:
        """Send a request to the model it names; cancelling the task cancels the predictor's work.

        A try that ended with "unavailable", as by the end of a pod, is followed by another: drawing changes
        nothing at the predictor. A timeout is never followed by another try, and all tries together
        have `timeout_s` seconds (the settings' limit when None or longer).

        Raises:
            UpstreamUnavailable: the predictor cannot be reached or is not ready (503).
            UpstreamTimeout: it did not answer in time (504).
            UpstreamError: it failed, or its answer cannot be read (502).
            InvalidInput, UnknownModel, QueueFull, RequestTooLarge, …: its own refusal, with its words.
        """
        limit = min(self._timeout_s, timeout_s or self._timeout_s)
        metadata = forwarded(headers)
        return await self._limited(limit, lambda: self._infer(request, metadata, limit))

    async def ready(self, model_name: str) -> bool:
        """Whether the predictor serves the model now; False too when it cannot be reached.

        Raises:
            UnknownModel: it has no such model.
        """
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                return await self._ready(model_name)
        except UnknownModel:
            raise
        except (TimeoutError, ServingError):
            return False

    async def metadata(self, model_name: str) -> dict[str, Any]:
        """The protocol's metadata of a model: name, versions, inputs, outputs, … Raises as `infer` does."""
        return await self._limited(PROBE_TIMEOUT_S, lambda: self._metadata(model_name))

    @abstractmethod
    async def close(self) -> None:
        """Close the connections; requests under way fail."""

    @abstractmethod
    async def _infer(
        self, request: InferRequest, headers: dict[str, str], limit_s: float
    ) -> InferResponse: ...

    @abstractmethod
    async def _ready(self, model_name: str) -> bool: ...

    @abstractmethod
    async def _metadata(self, model_name: str) -> dict[str, Any]: ...

    async def _limited(self, limit_s: float, attempt: Callable[[], Awaitable[_Answer]]) -> _Answer:
        lost: UpstreamUnavailable | None = None
        try:
            async with asyncio.timeout(limit_s):
                for retry in range(self._retries):
                    try:
                        return await attempt()
                    except UpstreamUnavailable as error:
                        lost = error
                        await asyncio.sleep(FIRST_BACKOFF_S * 2**retry * random.uniform(0.5, 1.5))
                return await attempt()
        except TimeoutError:
            # Out of time between the tries: what kept it from answering is that it is not there.
            raise (lost or UpstreamTimeout(f"the predictor did not answer within {limit_s:g} s")) from None


class GrpcUpstream(Upstream):
    """The predictor over gRPC: tensors travel as raw bytes."""

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

    async def _infer(self, request: InferRequest, headers: dict[str, str], limit_s: float) -> InferResponse:
        reply = await self._call(self._stub.ModelInfer, request.to_grpc(), headers, limit_s)
        try:
            return InferResponse.from_grpc(reply)
        except kserve.errors.InvalidInput:
            raise UpstreamError("the predictor's answer cannot be read") from None

    async def _ready(self, model_name: str) -> bool:
        reply = await self._call(
            self._stub.ModelReady, ModelReadyRequest(name=model_name), {}, PROBE_TIMEOUT_S
        )
        return bool(reply.ready)

    async def _metadata(self, model_name: str) -> dict[str, Any]:
        request = ModelMetadataRequest(name=model_name)
        reply = await self._call(self._stub.ModelMetadata, request, {}, PROBE_TIMEOUT_S)
        return {
            "name": reply.name,
            "versions": list(reply.versions),
            "platform": reply.platform,
            "inputs": [_tensor_metadata(tensor) for tensor in reply.inputs],
            "outputs": [_tensor_metadata(tensor) for tensor in reply.outputs],
        }

    async def _call(self, method: Any, message: Any, headers: Mapping[str, str], limit_s: float) -> Any:
        try:
            await asyncio.wait_for(self._channel.channel_ready(), self._connect_timeout_s)
        except TimeoutError:
            raise UpstreamUnavailable("the predictor cannot be reached") from None
        try:
            # A second more than our own limit, so that ours comes first; it tells the predictor when to stop.
            return await method(message, metadata=tuple(headers.items()), timeout=limit_s + 1)
        except grpc.aio.AioRpcError as error:
            trailing = dict(error.trailing_metadata() or ())
            status = _HTTP_STATUS.get(error.code(), 500)
            if status == 429 and "retry-after" not in trailing:
                status = 413  # the one other resource that gRPC exhausts is a message's length
            raise _refused(status, error.details() or "", trailing) from None
        except grpc.aio.UsageError:
            raise UpstreamUnavailable("the connection to the predictor is closed") from None


class RestUpstream(Upstream):
    """The predictor over REST; tensors travel as raw bytes after the JSON (the binary extension)."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        scheme = "https" if settings.predictor_use_ssl else "http"
        ca_file = settings.predictor_ca_file
        self._client = httpx.AsyncClient(
            base_url=f"{scheme}://{settings.predictor_host}/v2/models/",
            timeout=httpx.Timeout(None, connect=settings.predictor_connect_timeout),
            verify=ssl.create_default_context(cafile=str(ca_file)) if ca_file else True,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _infer(self, request: InferRequest, headers: dict[str, str], limit_s: float) -> InferResponse:
        request.parameters = {"binary_data_output": True}
        body, json_length = request.to_rest()
        headers = headers | {
            "inference-header-content-length": str(json_length),
            "content-type": "application/octet-stream",
        }
        reply = await self._send("POST", f"{quote(request.model_name, safe='@')}/infer", headers, body)
        try:
            length = int(reply.headers.get("inference-header-content-length", len(reply.content)))
            return _decode(reply.content, length)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UpstreamError("the predictor's answer cannot be read") from None

    async def _ready(self, model_name: str) -> bool:
        await self._send("GET", f"{quote(model_name, safe='@')}/ready", {})
        return True

    async def _metadata(self, model_name: str) -> dict[str, Any]:
        reply = await self._send("GET", quote(model_name, safe="@"), {})
        try:
            return dict(reply.json())
        except ValueError:
            raise UpstreamError("the predictor's answer cannot be read") from None

    async def _send(
        self, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> httpx.Response:
        try:
            reply = await self._client.request(method, path, headers=headers, content=body)
        except httpx.HTTPError as error:
            broken = isinstance(error, httpx.RemoteProtocolError)
            if broken and not any(words in str(error) for words in _CLOSED):
                raise UpstreamError("the predictor's answer cannot be read") from None
            # Refused, reset, or closed before the end of an answer.
            raise UpstreamUnavailable("the predictor cannot be reached") from None
        if reply.is_success:
            return reply
        try:
            message = str(reply.json()["error"])
        except (ValueError, KeyError, TypeError):
            message = ""
        raise _refused(reply.status_code, message, reply.headers)


def connect(settings: Settings) -> Upstream:
    """The way to the predictor that the settings name; call it on the event loop that will use it."""
    return RestUpstream(settings) if settings.predictor_protocol == "v2" else GrpcUpstream(settings)


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's headers that are passed on: those listed, where they are plain text as gRPC demands."""
    given = {name.lower(): value for name, value in headers.items()}
    return {
        name: given[name]
        for name in FORWARDED_HEADERS
        if name in given and given[name].isascii() and given[name].isprintable()
    }


_CLOSED = ("disconnected", "peer closed connection")
"""What httpx says of a connection that ended, in distinction to an answer that is no HTTP."""

_HTTP_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}


def _refused(status: int, message: str, headers: Mapping[str, Any]) -> ServingError:
    """The predictor's refusal as our own error.

    What it says of the caller's request is passed on word by word; what it says of itself is not.
    """
    retry_after = str(headers.get("retry-after", ""))
    match status:
        case 400 | 422:
            field, _, expected = message.partition(": ")
            return (
                InvalidInput(field, expected)
                if expected
                else InvalidInput("request", message or "is refused")
            )
        case 404:
            return UnknownModel(message or "the predictor has no such model")
        case 429:  # a proxy in between need not say when, nor why
            seconds = int(retry_after) if retry_after.isdecimal() else 1
            return QueueFull(seconds, message.partition("; try again")[0] or "too many requests")
        case 413:
            return RequestTooLarge(message or "the predictor reads no request as large as this")
        case 501:
            return NotImplementedHere(message or "the predictor cannot do this")
        # The predictor itself never says 502: a proxy in between has lost it.
        case 502 | 503:
            return UpstreamUnavailable("the predictor is not available")
        case 504:
            return UpstreamTimeout("the predictor ran out of time")
        case _:
            return UpstreamError("the predictor failed")


def _decode(body: bytes, json_length: int) -> InferResponse:
    """A v2 reply whose tensors stay raw: the SDK's own reader makes a Python number of every pixel."""
    head = orjson.loads(body[:json_length])
    outputs, offset = [], json_length
    for tensor in head["outputs"]:
        output = InferOutput(tensor["name"], tensor["shape"], tensor["datatype"], tensor.get("data"))
        size = (tensor.get("parameters") or {}).get("binary_data_size")
        if size is not None:
            output._raw_data = body[offset : offset + size]
            offset += size
        outputs.append(output)
    return InferResponse(head.get("id"), head["model_name"], outputs, model_version=head.get("model_version"))


def _tensor_metadata(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
