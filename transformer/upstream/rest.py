"""The predictor over REST; tensors travel as raw bytes after the JSON (the binary extension)."""

import ssl
from typing import Any
from urllib.parse import quote

import httpx
import orjson
from kserve import InferOutput, InferRequest, InferResponse

from predictor.errors import UpstreamError, UpstreamUnavailable
from transformer.settings import Settings
from transformer.upstream.base import Connected, Upstream, refused

_CLOSED = ("disconnected", "peer closed connection")
"""What httpx says of a connection that ended, in distinction to an answer that is no HTTP."""


class RestUpstream(Upstream):
    """The predictor over REST."""

    call = "POST /v2/models/{model_name}/infer"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        scheme = "https" if settings.predictor_use_ssl else "http"
        ca_file = settings.predictor_ca_file
        self._client = httpx.AsyncClient(
            base_url=f"{scheme}://{settings.predictor_host}/v2/models/",
            timeout=httpx.Timeout(None, connect=settings.predictor_connect_timeout),
            # Draws keep their connections for long: probes and look-ups must not wait for one of them to end.
            limits=httpx.Limits(max_connections=None),
            verify=ssl.create_default_context(cafile=str(ca_file)) if ca_file else True,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _infer(
        self, request: InferRequest, headers: dict[str, str], limit_s: float, connected: Connected
    ) -> InferResponse:
        request.parameters = {"binary_data_output": True}
        body, json_length = request.to_rest()
        headers = headers | {
            "inference-header-content-length": str(json_length),
            "content-type": "application/octet-stream",
        }
        path = f"{quote(request.model_name, safe='@')}/infer"
        reply = await self._send("POST", path, headers, body, connected)
        try:
            length = int(reply.headers.get("inference-header-content-length", len(reply.content)))
            return _decode(reply.content, length)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UpstreamError("the predictor's answer cannot be read") from None

    async def _ready(self, model_name: str) -> bool:
        await self._send("GET", f"{quote(model_name, safe='@')}/ready", {})
        return True

    async def _metadata(self, model_name: str, connected: Connected) -> dict[str, Any]:
        reply = await self._send("GET", quote(model_name, safe="@"), {}, connected=connected)
        try:
            return dict(reply.json())
        except ValueError:
            raise UpstreamError("the predictor's answer cannot be read") from None

    async def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes | None = None,
        connected: Connected = lambda: None,
    ) -> httpx.Response:
        async def trace(event: str, _: object) -> None:
            if event == "http11.send_request_headers.started":
                connected()

        try:
            reply = await self._client.request(
                method, path, headers=headers, content=body, extensions={"trace": trace}
            )
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
        raise refused(reply.status_code, message, reply.headers)


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
