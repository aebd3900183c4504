"""A whole comparison, as `python -m benchmarks` does it: of the predictor alone, on a small model of the
shape of Stable Diffusion 1.5.
"""

from dataclasses import replace
from itertools import count
from pathlib import Path

import psutil
import pytest

from benchmarks.__main__ import compare
from benchmarks.bench import Bench
from benchmarks.jobs import Job
from benchmarks.results import FAILED, Results
from benchmarks.sd15 import write_model
from benchmarks.settings import Settings

SMALL = Settings(
    threads=1,
    max_batch_size=2,
    repeats=3,
    sides=("predictor",),
    latency_sides=("predictor",),
    scenarios=("steps", "throughput", "joining", "overhead", "drift"),
    steps=(1, 2, 3),
    warm_up=1,
    burst=3,
    step_rows=(1, 2),
    step_count=1,
    joins=1,
    delays=1,
    overhead_jobs=1,
    drift_requests=2,
    drift_windows=1,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, width=32, text_width=24, text_layers=1, sample_size=16)
    return folder


def settings(model: Path, **changes: object) -> Settings:
    return replace(SMALL, model_dir=model, **changes)


def test_all_scenarios_run_on_a_model_of_the_shape_of_sd15(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes = (60.0 * minute for minute in count())  # every look at the clock is a minute after the last
    results = compare(settings(model, minutes=25), tmp_path, lambda: next(minutes))
    assert not [child for child in psutil.Process().children() if "benchmarks" in " ".join(child.cmdline())]
    said = capsys.readouterr().out
    assert "25 minutes at most" in said
    assert "minutes to go" in said
    assert "round 2 of 3: no time for joining" in said
    rounds = {
        name: len({row.repeat for row in results.rows if row.scenario == name}) for name in SMALL.scenarios
    }
    assert rounds == {"steps": 2, "throughput": 2, "joining": 1, "overhead": 1, "drift": 1}
    for side in ("predictor", "engine"):
        assert all(value > 0 for value in results.values("throughput", "mixed", side, "throughput"))
    assert results.values("steps", "every row another LoRA", "engine", "step")
    assert results.values("steps", "1 row, no LoRA", "diffusers", "step")
    assert results.values("steps", "mixed", "roof", "throughput")[0] > 0
    assert results.values("throughput", "mixed", "engine", "padding")[0] == 0
    assert len(results.values("overhead", "one step", "predictor", "added")) == rounds["overhead"]
    assert results.values("drift", "requests 1 to 2", "predictor", "memory")[0] > 0
    assert Results.read(tmp_path / "results.csv").rows == results.rows
    report = (tmp_path / "report.md").read_text()
    assert "; 1 to 2 rounds; " in report
    assert "| padding of the UNet's rows | ≤ 0.05 | 0 [0, 0] | yes |" in report
    assert (tmp_path / "results.svg").exists()


def test_a_side_that_fails_is_left_out_and_started_anew(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = Results.create(tmp_path / "results.csv", settings(model))
    jobs = [Job("a red apple", seed, 1, 1.0, None) for seed in range(2)]
    before = psutil.Process().children()  # of other tests' servers
    with Bench(settings(model), results, tmp_path) as bench:
        with bench.server("predictor") as server:
            server.process.kill()
            server.process.wait()
        with bench.forgiving("throughput", 4):
            bench.burst("predictor", jobs)
            pytest.fail("nobody was there")
        assert results.runs(FAILED, "throughput", "predictor", "failed") == {4: [1.0]}
        assert "throughput, round 5: predictor failed" in capsys.readouterr().err
        assert len(bench.burst("predictor", jobs).outcomes) == 2
    left = [child for child in psutil.Process().children() if child not in before]
    assert not [child for child in left if "predictor" in " ".join(child.cmdline())]
