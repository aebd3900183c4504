"""Talking to the predictor: the Open Inference Protocol over gRPC or REST, with time limits and safe retries.

It sends and receives KServe's request and response objects and knows nothing of what is in them. Every
failure comes out as an error of `predictor.errors` whose text is fit for the caller: no address, no inside.
"""

from transformer.settings import Settings
from transformer.upstream.base import FORWARDED_HEADERS, Upstream, forwarded
from transformer.upstream.grpc import GrpcUpstream
from transformer.upstream.rest import RestUpstream

__all__ = ["FORWARDED_HEADERS", "Upstream", "connect", "forwarded"]


def connect(settings: Settings) -> Upstream:
    """The way to the predictor that the settings name; call it on the event loop that will use it."""
    return RestUpstream(settings) if settings.predictor_protocol == "v2" else GrpcUpstream(settings)
