"""Results: written, read again, judged by the goals, told as Markdown and as a picture."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.goals import goals
from benchmarks.plot import plot
from benchmarks.report import report
from benchmarks.results import Result, Results
from benchmarks.settings import SCENARIOS, Settings, read_settings


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Three repeats of throughput and of latency for two sides."""
    results = Results.create(tmp_path / "results.csv", Settings())
    for repeat, slowness in enumerate((1.0, 2.0, 1.5)):
        for side, rate in (("predictor", 9.0), ("bentoml", 3.0)):
            results.add(
                Result("throughput", "mixed", side, repeat, "throughput", rate / slowness, "pictures/s")
            )
            results.add(Result("latency", "mixed, 70% load", side, repeat, "p99", slowness * 9 / rate, "s"))
    return results


def test_what_is_written_is_read_again_with_its_settings(tmp_path: Path, results: Results) -> None:
    again = Results.read(tmp_path / "results.csv")
    assert again.rows == results.rows
    assert again.about["settings"]["repeats"] == 5
    assert again.about["machine"]["cores"] >= 1
    assert again.values("throughput", "mixed", "bentoml", "throughput") == [3.0, 1.5, 2.0]


def test_a_ratio_of_interleaved_repeats_is_free_of_what_slowed_both(results: Results) -> None:
    found = {goal.text: (goal, goal.estimate(results)) for goal in goals(results)}
    goal, estimate = found["mixed throughput to BentoML"]
    assert estimate is not None
    assert estimate.value == pytest.approx(3.0)
    assert goal.met(estimate.value)
    goal, estimate = found["mixed p99 at 70% load to BentoML"]
    assert estimate is not None
    assert estimate.value == pytest.approx(1 / 3)
    assert goal.met(estimate.value)
    assert not goal.met(0.5)


def test_the_report_has_every_side_and_says_what_was_not_measured(results: Results) -> None:
    text = report(results)
    assert "| mixed throughput to BentoML | ≥ 2.5 | 3 [3, 3] | yes |" in text
    assert "| mixed throughput to plain diffusers | ≥ 4 | not measured |  |" in text
    assert "| mixed | throughput, pictures/s | bentoml | 2 [1.5, 3] | 3 [3, 3] |" in text
    assert '"max_batch_size": 8' in text


def test_the_picture_has_a_bar_for_each_side_of_each_case(results: Results) -> None:
    picture = ElementTree.fromstring(plot(results))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f"{space}rect")) == 1 + 2 * 2
    texts = [text.text for text in picture.findall(f"{space}text")]
    assert texts.count("predictor") == texts.count("bentoml") == 2
    assert "throughput: mixed, throughput (pictures/s)" in texts


def test_nothing_measured_is_no_error(tmp_path: Path) -> None:
    results = Results.create(tmp_path / "results.csv", Settings())
    assert "not measured" in report(results)
    assert ElementTree.fromstring(plot(results)).tag.endswith("svg")


def test_every_field_is_a_flag_and_beats_quick() -> None:
    settings = read_settings(["--quick", "--repeats", "7", "--loads", "0.5", "0.9", "--out", "elsewhere"])
    assert (settings.repeats, settings.loads, settings.out) == (7, (0.5, 0.9), Path("elsewhere"))
    assert settings.burst < Settings().burst
    assert read_settings([]) == Settings()
    assert set(settings.scenarios) == set(SCENARIOS)


@pytest.mark.parametrize("flags", [["--scenarios", "nonsense"], ["--steps", "8", "4"], ["--repeats", "0"]])
def test_wrong_flags_end_the_process(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read_settings(flags)
    assert "error" in capsys.readouterr().err
