"""What is counted for /stats, by hand."""

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from predictor.engine.admission import Costs
from predictor.engine.cost_model import CostModel
from predictor.engine.course import Course
from predictor.engine.worker import CallKind
from predictor.ledger import Ledger
from predictor.outcome import Ending, Outcome
from predictor.statistics import PredictorStats


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(CollectorRegistry())


def read(ledger: Ledger, model: str = "emoji") -> PredictorStats:
    costs = Costs(step=CostModel(), decode=CostModel())
    for rows, seconds in ((1, 0.3), (2, 0.5)) * 6:
        costs.step.observe((16, 24), rows, seconds)
    engine = SimpleNamespace(queue_depth=3, queue_age=1.5, queue_seconds=2.5, active_rows=2, costs=costs)
    diffuser = SimpleNamespace(adapters=("a@1", "b@1"), resident_adapters=("a@1",))
    return PredictorStats.model_validate({"requests": {}, **ledger.read(model, engine, diffuser)})


def outcome(ending: Ending, *rows: tuple[str, Course], model: str = "emoji") -> Outcome:
    loras, courses = zip(*rows, strict=True)
    return Outcome(model, loras, courses, ending, 20.0)


def test_pictures_are_counted_under_the_name_asked_for_by_what_drew_them(ledger: Ledger) -> None:
    course = Course(10.0, 11.0, 11.5, 15.5, 15.75, steps=4, mates=8, encoded=True)
    ledger.ended(outcome(Ending.DRAWN, ("a@1", course), ("a@1", course), ("a@2:0.5+b@1:0.5", course)))
    ledger.ended(outcome(Ending.FAILED, ("a@1", Course(18.0))))
    ledger.ended(outcome(Ending.REFUSED, ("a@1", Course(18.0))))
    ledger.ended(outcome(Ending.DRAWN, ("none", course), model="other"))
    one, mix = read(ledger).model_stats
    assert (one.name, one.version, one.lora, one.inference_count) == ("emoji", "1", "a@1", 2)
    assert one.last_inference > 1_700_000_000_000
    assert {stage: (time.count, time.ns / 1e9) for stage, time in one.inference_stats} == {
        "success": (2, 11.5),
        "fail": (1, 2.0),
        "queue": (2, 2.0),
        "compute_input": (2, 1.0),
        "compute_infer": (2, 8.0),
        "compute_output": (2, 0.5),
    }
    assert (mix.version, mix.lora, mix.inference_count) == ("", "mix", 1)
    assert [stats.lora for stats in read(ledger, "other").model_stats] == ["none"]
    assert read(ledger, "nobody asked").model_stats == []


def test_the_stages_of_a_picture_add_up_to_its_time(ledger: Ledger) -> None:
    late = Course(10.0, 14.0, 14.0, 15.0, 16.0, steps=1, mates=2, shared=True)
    after_the_last_step = Course(10.0, 15.5, 15.5, None, 16.0, shared=True)
    ledger.ended(outcome(Ending.DRAWN, ("a@1", late), ("a@1", after_the_last_step)))
    stats = read(ledger).model_stats[0].inference_stats
    stages = (stats.queue, stats.compute_input, stats.compute_infer, stats.compute_output)
    assert sum(stage.ns for stage in stages) == stats.success.ns == 12 * 10**9
    assert stats.queue.ns == (4 + 5.5) * 10**9


def test_the_engines_calls_are_counted_by_the_size_of_their_batch(ledger: Ledger) -> None:
    for kind, rows in (
        *((CallKind.ENCODE, 2), (CallKind.BEGIN, 2)),
        *((CallKind.STEP, rows) for rows in (2, 2, 1)),
        (CallKind.DECODE, 1),
    ):
        ledger.called(kind, rows, 0.25)
    engine = read(ledger).engine
    found = {batch.batch_size: batch for batch in engine.batch_stats}
    assert list(found) == [1, 2]
    assert [found[1].compute_input.count, found[1].compute_infer.count, found[1].compute_output.count] == [
        *(0, 1, 1)
    ]
    assert [found[2].compute_input.count, found[2].compute_infer.ns] == [1, 500_000_000]
    assert engine.execution_count == 3


def test_the_engine_is_described_as_it_is(ledger: Ledger) -> None:
    shared = Course(10.0, 11.0, 11.5, 15.5, 15.75, shared=True)
    ledger.ended(outcome(Ending.DRAWN, ("a@1", Course(10.0, 11.0, 11.5, 15.5, 15.75)), ("a@1", shared)))
    engine = read(ledger).engine
    assert (engine.queue.rows, engine.queue.age_ns, engine.queue.work_ns) == (3, 1.5e9, 2.5e9)
    assert (engine.active_rows, engine.loras) == (2, {"served": 2, "resident": 1})
    assert (engine.prompt_cache, engine.shared_pictures) == ({"hits": 1, "misses": 0}, 1)
    (cost,) = engine.costs
    assert (cost.kind, cost.height, cost.width) == ("step", 16, 24)
    assert (cost.row_ns / 1e9, cost.call_ns / 1e9) == pytest.approx((0.2, 0.1))
