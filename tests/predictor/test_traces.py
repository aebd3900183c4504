"""Spans without processes: what becomes of a caller's context, and of a request's way through the engine."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace as api
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from predictor.edge import spans
from predictor.edge.spans import client_span, server_span, span
from predictor.engine.course import Course
from predictor.outcome import Ending, Outcome
from predictor.traces import trace

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "rojo=00f067aa0ba902b7"}


@pytest.fixture
def collected() -> Iterator[InMemorySpanExporter]:
    """What is sent from here on."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "TRACER", provider.get_tracer("test"))
        yield exporter


def finished(collected: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in collected.get_finished_spans()}


def test_a_callers_trace_goes_on(collected: InMemorySpanExporter) -> None:
    with server_span("request", CALLER, {"n": 1}), span("part"), client_span("call", {}) as headers:
        pass
    found = finished(collected)
    assert {format(own.context.trace_id, "032x") for own in found.values()} == {TRACE}
    assert format(found["request"].parent.span_id, "016x") == SPAN
    assert found["part"].parent.span_id == found["request"].context.span_id
    assert found["call"].parent.span_id == found["part"].context.span_id
    call = format(found["call"].context.span_id, "016x")
    assert headers == {"traceparent": f"00-{TRACE}-{call}-01", "tracestate": CALLER["tracestate"]}


def test_where_nobody_collects_the_callers_context_is_passed_on() -> None:
    with server_span("request", CALLER, {}), span("part"), client_span("call", {}) as headers:
        assert headers == CALLER
    with server_span("request", {}, {}), client_span("call", {}) as headers:
        assert headers == {}
    assert api.get_current_span() is api.INVALID_SPAN


BROKEN = [
    "",
    "nonsense",
    f"00-{TRACE}-{SPAN}",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE}-{SPAN}-01-more",
    "0" * 10_000,
]


@pytest.mark.parametrize("given_", BROKEN)
def test_a_broken_context_is_ignored(collected: InMemorySpanExporter, given_: str) -> None:
    with server_span("request", {"traceparent": given_, "tracestate": "a=1"}, {}):
        pass
    assert finished(collected)["request"].parent is None


HEADER = st.text(st.characters(max_codepoint=255)) | st.sampled_from(BROKEN)
"""As HTTP has them: Latin-1."""


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(("traceparent", "tracestate")), HEADER))
def test_no_header_does_harm(headers: dict[str, str]) -> None:
    with (
        server_span("request", {"traceparent": CALLER["traceparent"]} | headers, {}),
        client_span("call", {}) as passed,
    ):
        assert all(value.isascii() and value.isprintable() for value in passed.values())


def test_a_failed_part_says_what_kind_of_error_but_not_its_message(collected: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="secret"), server_span("request", {}, {}), span("part"):
        raise ValueError("a secret")
    part = finished(collected)["part"]
    assert (part.status.status_code, part.attributes["error.type"]) == (StatusCode.ERROR, "ValueError")
    assert "secret" not in part.to_json()


def outcome(ending: Ending, *courses: Course) -> Outcome:
    return Outcome("emoji", ["a@1"] * len(courses), courses, ending, 110.0)


def recorded(collected: InMemorySpanExporter, ending: Ending, *courses: Course) -> dict[str, ReadableSpan]:
    with server_span("request", {}, {}):
        trace(outcome(ending, *courses))
    found = finished(collected)
    request = found.pop("request")
    assert all(own.parent.span_id == request.context.span_id for own in found.values())
    return found


def seconds(own: ReadableSpan) -> float:
    return round((own.end_time - own.start_time) / 1e9, 3)


def test_a_request_is_admitted_stepped_and_decoded(collected: InMemorySpanExporter) -> None:
    first = Course(100.0, 101.0, 101.5, 104.0, 104.25, steps=5, mates=10, encoded=True)
    second = Course(100.0, 102.0, 102.5, 106.0, 106.75, steps=7, mates=8)
    shared = Course(100.0, 102.0, 102.5, 106.0, 106.75, steps=7, mates=8, shared=True)
    found = recorded(collected, Ending.DRAWN, first, second, shared)
    assert {name: seconds(own) for name, own in found.items()} == {"admit": 1.5, "steps": 4.5, "decode": 0.75}
    assert found["admit"].end_time == found["steps"].start_time
    assert found["steps"].end_time == found["decode"].start_time
    assert dict(found["admit"].attributes) == {
        "emoji.rows": 3,
        "emoji.shared_rows": 1,
        "emoji.prompt_cache_hits": 1,
    }
    assert dict(found["steps"].attributes) == {
        "emoji.steps": 7,
        "emoji.batch_rows_mean": 26 / 19,
        "emoji.loras": ("a@1",),
    }


@pytest.mark.parametrize(
    ("course", "wanted"),
    [
        (Course(), {}),
        (Course(100.0), {"admit": 10}),
        (Course(100.0, 101.0), {"admit": 10}),
        (Course(100.0, 101.0, 102.0), {"admit": 2, "steps": 8}),
        (Course(100.0, 101.0, 102.0, 105.0, steps=2, mates=2), {"admit": 2, "steps": 8}),
    ],
)
@pytest.mark.parametrize("ending", [Ending.FAILED, Ending.REFUSED])
def test_one_that_ends_on_its_way_has_the_spans_so_far(
    collected: InMemorySpanExporter, course: Course, wanted: dict[str, float], ending: Ending
) -> None:
    found = recorded(collected, ending, course)
    assert {name: seconds(own) for name, own in found.items()} == wanted
    failed = [name for name, own in found.items() if own.status.status_code is StatusCode.ERROR]
    assert failed == (list(wanted)[-1:] if ending is Ending.FAILED else [])
