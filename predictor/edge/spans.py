"""The spans of a request, by OpenTelemetry's API, and the W3C Trace Context that joins those of processes.

Where nobody collects them (`collector`) all of it is the API's own no-op, but for the caller's context, which
is passed on. No span holds a prompt or the message of an error.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attributes = Mapping[str, str | int | float | list[str]]

TRACER = trace.get_tracer("kserve-emoji")
_W3C = TraceContextTextMapPropagator()


@contextmanager
def server_span(name: str, headers: Mapping[str, str], attributes: Attributes) -> Iterator[Span]:
    """A request's span, a child of its caller's if the headers (in lower case) name one that can be read."""
    parent = _W3C.extract(headers, Context())
    with _current(TRACER.start_span(name, parent, SpanKind.SERVER, attributes)) as span:
        yield span


@contextmanager
def client_span(name: str, attributes: Attributes) -> Iterator[dict[str, str]]:
    """The span of one call to another server: gives the headers by which that one continues the trace."""
    with _current(TRACER.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)) as span:
        headers: dict[str, str] = {}
        _W3C.inject(headers)
        with _failing(span):
            yield headers


@contextmanager
def span(name: str, attributes: Attributes | None = None) -> Iterator[Span]:
    """The span of a part of a request's work."""
    with _current(TRACER.start_span(name, attributes=attributes)) as own, _failing(own):
        yield own


def past_span(name: str, began: int, ended: int, attributes: Attributes, *, failed: bool = False) -> None:
    """The span of a part that is over, of the current request; times in nanoseconds since 1970."""
    own = TRACER.start_span(name, attributes=attributes, start_time=began)
    if failed:
        own.set_status(StatusCode.ERROR)
    own.end(ended)


def _current(started: Span) -> AbstractContextManager[Span]:
    return trace.use_span(started, end_on_exit=True, record_exception=False, set_status_on_exception=False)


@contextmanager
def _failing(own: Span) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        fail(own, type(error).__name__)
        raise


def fail(own: Span, error_type: str) -> None:
    """Mark a span as failed."""
    own.set_attribute("error.type", error_type)
    own.set_status(StatusCode.ERROR)
