"""The tree of errors a server answers with; each class carries its HTTP and its gRPC status.

An error's text is meant for the caller: it names the field and the remedy, and nothing of the inside.
Knows no torch, no KServe and no model: predictor and transformer both raise these.
"""

import math

from grpc import StatusCode


class ServingError(Exception):
    """A request could not be served; `message` may be shown to whoever sent it."""

    http_status: int = 500
    grpc_status: StatusCode = StatusCode.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the HTTP reply; in gRPC the same, lower-cased, are trailing metadata."""
        return {}


class InvalidInput(ServingError):
    """A field is missing, has the wrong type or shape, or lies outside its range."""

    http_status = 400
    grpc_status = StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, expected: str) -> None:
        """`field` is the tensor or parameter; `expected` says what it should be, with the range."""
        super().__init__(f"{field}: {expected}")
        self.field = field


class UnknownModel(ServingError):
    """No model, LoRA or version of that name is served here."""

    http_status = 404
    grpc_status = StatusCode.NOT_FOUND


class RequestTooLarge(ServingError):
    """The request's body is longer than the server reads."""

    http_status = 413
    grpc_status = StatusCode.RESOURCE_EXHAUSTED


class QueueFull(ServingError):
    """The waiting rows fill the queue; worth another try after `retry_after` seconds."""

    http_status = 429
    grpc_status = StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, retry_after: float, message: str = "the queue is full") -> None:
        self.retry_after = math.ceil(min(max(retry_after, 1), 3600))
        super().__init__(f"{message}; try again in {self.retry_after} s")

    @property
    def headers(self) -> dict[str, str]:
        """Whole seconds, as HTTP's Retry-After wants them."""
        return {"Retry-After": str(self.retry_after)}


class NotImplementedHere(ServingError):
    """The protocol has such a call, this server does not."""

    http_status = 501
    grpc_status = StatusCode.UNIMPLEMENTED


class UpstreamError(ServingError):
    """The predictor behind the transformer answered with something that cannot be used."""

    http_status = 502
    grpc_status = StatusCode.INTERNAL


class NotReady(ServingError):
    """The server is starting or stopping."""

    http_status = 503
    grpc_status = StatusCode.UNAVAILABLE


class UpstreamUnavailable(ServingError):
    """The predictor behind the transformer cannot be reached."""

    http_status = 503
    grpc_status = StatusCode.UNAVAILABLE


class DeadlineExceeded(ServingError):
    """The work took longer than the caller or the server allows."""

    http_status = 504
    grpc_status = StatusCode.DEADLINE_EXCEEDED


class UpstreamTimeout(DeadlineExceeded):
    """The predictor behind the transformer did not answer in time."""
