"""The spans of a request's way through the engine: admit, steps, decode. They are made when it has ended.

One span for all rows and all of their steps: a span a step would be more than anybody reads.
"""

import time
from collections.abc import Iterable

from predictor.edge import past_span
from predictor.outcome import Ending, Outcome


def trace(outcome: Outcome) -> None:
    """Children of the current span, in so far as the request has come there; none where nobody records."""
    courses = outcome.courses
    arrived = _first(course.arrived for course in courses)
    if arrived is None:
        return
    failed = outcome.ending is Ending.FAILED
    begun = _first(course.begun for course in courses)
    stepped = _last(course.stepped for course in courses)
    drawn = _last(course.drawn for course in courses)
    # the engine's clock has no date
    date_ns = time.time_ns() - _ns(outcome.ended)

    def span(name: str, began: float, ended: float | None, **attributes: int | float | list[str]) -> None:
        named = {f"emoji.{key}": value for key, value in attributes.items()}
        until = outcome.ended if ended is None else ended
        past_span(name, date_ns + _ns(began), date_ns + _ns(until), named, failed=failed and ended is None)

    span(
        "admit",
        arrived,
        begun,
        rows=len(courses),
        shared_rows=sum(course.shared for course in courses),
        prompt_cache_hits=sum(
            course.begun is not None and not course.encoded and not course.shared for course in courses
        ),
    )
    if begun is None:
        return
    steps = sum(course.steps for course in courses)
    span(
        "steps",
        begun,
        stepped if drawn is not None else None,
        steps=max(course.steps for course in courses),
        batch_rows_mean=sum(course.mates for course in courses) / steps if steps else 0.0,
        loras=sorted(set(outcome.loras)),
    )
    if stepped is not None and drawn is not None:
        span("decode", stepped, drawn)


def _first(times: Iterable[float | None]) -> float | None:
    return min((known for known in times if known is not None), default=None)


def _last(times: Iterable[float | None]) -> float | None:
    return max((known for known in times if known is not None), default=None)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
