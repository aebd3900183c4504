"""What both ways to the predictor have in common: limits, retries, headers, and refusals as our own errors.

Knows no connection and no wire format.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar, TypeVar

from kserve import InferRequest, InferResponse

from predictor.contract import TENANT_HEADER
from predictor.edge import client_span
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

FORWARDED_HEADERS = (
    "authorization",
    "x-request-id",
    TENANT_HEADER,
    "x-b3-traceid",
)
"""What of a caller's headers the predictor gets to see; `traceparent` and `tracestate` come from the span."""

FIRST_BACKOFF_S = 0.1
PROBE_TIMEOUT_S = 5.0

Connected = Callable[[], None]
"""To be called by a try as soon as it has a connection to send its request by."""

_Answer = TypeVar("_Answer")


class Upstream(ABC):
    """The predictor as seen from here. Safe for concurrent use on one event loop."""

    call: ClassVar[str]
    """The name of the calls' spans."""

    def __init__(self, settings: Settings) -> None:
        self._host = settings.predictor_host
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
        return await self._limited(limit, lambda connected: self._try(request, metadata, limit, connected))

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
        return await self._limited(PROBE_TIMEOUT_S, lambda connected: self._metadata(model_name, connected))

    @abstractmethod
    async def close(self) -> None:
        """Close the connections; requests under way fail."""

    @abstractmethod
    async def _infer(
        self, request: InferRequest, headers: dict[str, str], limit_s: float, connected: Connected
    ) -> InferResponse: ...

    @abstractmethod
    async def _ready(self, model_name: str) -> bool: ...

    @abstractmethod
    async def _metadata(self, model_name: str, connected: Connected) -> dict[str, Any]: ...

    async def _try(
        self, request: InferRequest, headers: dict[str, str], limit_s: float, connected: Connected
    ) -> InferResponse:
        with client_span(self.call, {"server.address": self._host}) as context:
            return await self._infer(request, headers | context, limit_s, connected)

    async def _limited(self, limit_s: float, attempt: Callable[[Connected], Awaitable[_Answer]]) -> _Answer:
        lost: UpstreamUnavailable | None = None

        def connected() -> None:
            nonlocal lost
            lost = None

        try:
            async with asyncio.timeout(limit_s):
                for retry in range(self._retries):
                    try:
                        return await attempt(connected)
                    except UpstreamUnavailable as error:
                        lost = error
                        await asyncio.sleep(FIRST_BACKOFF_S * 2**retry * random.uniform(0.5, 1.5))
                return await attempt(connected)
        except TimeoutError:
            # Out of time between the tries: what kept it from answering is that it is not there. One that was
            # reached and is slow is another matter: clients and proxies send again what ended with a 503.
            late = UpstreamTimeout(f"the predictor did not answer within {round(limit_s, 2):g} s")
            raise (lost or late) from None


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """The caller's headers that are passed on: those listed, where they are plain text as gRPC demands."""
    given = {name.lower(): value for name, value in headers.items()}
    return {
        name: given[name]
        for name in FORWARDED_HEADERS
        if name in given and given[name].isascii() and given[name].isprintable()
    }


def refused(status: int, message: str, headers: Mapping[str, Any]) -> ServingError:
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
