"""What is counted of calls and requests, by hand."""

import pytest
from prometheus_client import CollectorRegistry

from predictor.engine.course import Course
from predictor.engine.worker import CallKind
from predictor.metrics import Metrics
from predictor.outcome import Ending, Outcome


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def course(**changes: float | bool) -> Course:
    return Course(**{"arrived": 1.0, "admitted": 1.2, "begun": 1.5, "stepped": 3.0, "drawn": 3.5, **changes})


def outcome(ending: Ending, *rows: tuple[str, Course]) -> Outcome:
    loras, courses = zip(*rows, strict=True)
    return Outcome("emoji", loras, courses, ending, 4.0)


def counts(registry: CollectorRegistry, *names: str) -> list[float | None]:
    return [registry.get_sample_value(name) for name in names]


def test_pictures_are_counted_by_what_drew_them(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    mix = "a@1:0.7+b@2:0.3"
    metrics.ended(outcome(Ending.DRAWN, ("a@1", course()), (mix, course()), ("none", course(shared=True))))
    metrics.ended(outcome(Ending.FAILED, ("a@1", course()), (mix, course())))
    metrics.ended(outcome(Ending.REFUSED, ("a@1", course())))

    def by(name: str, lora: str) -> float | None:
        return registry.get_sample_value(name, {"lora": lora})

    assert [by("emoji_pictures_total", lora) for lora in ("a@1", "mix", "none", mix)] == [1, 1, 1, None]
    assert [by("emoji_mixed_pictures_total", lora) for lora in ("a@1", "b@2", "mix")] == [1, 1, None]
    assert [by("emoji_failed_pictures_total", lora) for lora in ("a@1", "mix", "none", mix)] == [
        1,
        1,
        0,
        None,
    ]
    assert counts(registry, "emoji_shared_pictures_total") == [1]


def test_what_was_begun_counts_however_it_ended(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    never = course(admitted=None, begun=None, stepped=None, drawn=None)
    for ending in Ending:
        rows = (course(encoded=True), course(), course(shared=True, begun=2.0), never)
        metrics.ended(outcome(ending, *(("a@1", row) for row in rows)))
    assert counts(registry, "emoji_join_wait_seconds_count", "emoji_join_wait_seconds_sum") == [9, 6.0]
    assert counts(registry, "emoji_prompt_cache_hits_total", "emoji_prompt_cache_misses_total") == [3, 3]


def test_calls_are_timed_by_their_kind(registry: CollectorRegistry) -> None:
    metrics = Metrics(registry)
    for kind, rows in ((CallKind.ENCODE, 4), (CallKind.BEGIN, 4), (CallKind.STEP, 3), (CallKind.STEP, 2)):
        metrics.called(kind, rows, 0.25)
    names = ("emoji_encode_seconds", "emoji_step_seconds", "emoji_decode_seconds", "emoji_step_rows")
    assert counts(registry, *(f"{name}_count" for name in names)) == [1, 2, 0, 2]
    assert counts(registry, "emoji_step_seconds_sum", "emoji_step_rows_sum") == [0.5, 5]
