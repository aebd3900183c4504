"""Results: written, read again, judged by the goals, told as Markdown and as a picture, published."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.goals import Goal, goals
from benchmarks.plot import plot
from benchmarks.publish import FOLDER, NoPlace, marks, page_part, placed, publish, readme_part
from benchmarks.report import report
from benchmarks.results import Result, Results
from benchmarks.settings import Settings

ROOT = Path(__file__).parents[2]
BEGIN, END = marks()


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Three rounds of throughput, with the bound of it, and of latencies, for two sides."""
    results = Results.create(tmp_path / "results.csv", Settings())

    for repeat, slowness in enumerate((1.0, 2.0, 1.5)):
        numbers = [("steps", "mixed", "bound", "throughput", 12.0 / slowness)]
        for side, rate in (("predictor", 9.0), ("bentoml", 3.0)):
            numbers.append(("throughput", "mixed", side, "throughput", rate / slowness))
            for job in range(1, 11):
                numbers.append(("latency", "mixed, 70% load", side, "latency", slowness * job * 9 / rate))
        for scenario, case, side, metric, value in numbers:
            results.add(Result(scenario, case, side, repeat, metric, value, "any"))
    return results


def goal(results: Results, text: str) -> Goal:
    (found,) = [each for each in goals(results) if each.text == text]
    return found


def test_what_is_written_is_read_again_with_its_settings(tmp_path: Path, results: Results) -> None:
    again = Results.read(tmp_path / "results.csv")
    assert again.rows == results.rows
    assert again.about["settings"]["repeats"] == 5
    assert again.about["machine"]["cores"] >= 1
    assert again.values("throughput", "mixed", "bentoml", "throughput") == [3.0, 1.5, 2.0]
    assert again.runs("latency", "mixed, 70% load", "predictor", "latency")[1] == [
        2.0 * job for job in range(1, 11)
    ]


def test_a_ratio_of_interleaved_rounds_is_free_of_what_slowed_both(results: Results) -> None:
    throughput = goal(results, "mixed throughput to BentoML")
    estimate = throughput.estimate(results)
    assert estimate is not None
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3.0, 3.0, 3.0))
    assert throughput.met(estimate.value)
    p99 = goal(results, "mixed p99 at 70% load to BentoML")
    estimate = p99.estimate(results)
    assert estimate is not None
    assert estimate.value == pytest.approx(1 / 3)
    assert p99.met(estimate.value)
    assert not p99.met(0.5)


def test_a_goal_is_told_what_bounds_it(results: Results) -> None:
    bound = goal(results, "mixed throughput to BentoML").bound(results)
    assert bound is not None
    assert bound.value == pytest.approx(4.0)
    share = goal(results, "or: mixed throughput to the bound of t(B)")
    estimate = share.estimate(results)
    assert estimate is not None
    assert estimate.value == pytest.approx(0.75)
    assert not share.met(estimate.value)
    assert goal(results, "padding of the UNet's rows").bound(results) is None


def test_a_round_that_one_side_lacks_is_left_out_of_its_ratio(results: Results) -> None:
    results.add(Result("throughput", "mixed", "predictor", 3, "throughput", 100.0, "any"))
    estimate = goal(results, "mixed throughput to BentoML").estimate(results)
    assert estimate is not None
    assert estimate.value == pytest.approx(3.0)


def test_a_gpu_has_goals_of_its_own(results: Results) -> None:
    text = "a step, every row another LoRA, to none"
    assert goal(results, text).limit == 1.1
    assert not [each for each in goals(results) if "roof" in each.text]
    results.about["settings"]["device"] = "cuda"
    assert goal(results, text).limit == 1.05
    assert goal(results, "homogeneous throughput to the device's roof").limit == 0.55


def test_the_report_has_every_side_and_says_what_was_not_measured(results: Results) -> None:
    text = report(results)
    full = "4 [4, 4]: steps always full, at the measured a and b"
    assert f"| mixed throughput to BentoML | ≥ 2.5 | 3 [3, 3] | yes | {full} |" in text
    assert "| or: mixed throughput to the bound of t(B) | ≥ 0.9 | 0.75 [0.75, 0.75] | **no** |  |" in text
    assert "| either: mixed throughput to plain diffusers | ≥ 4 | not measured |  |" in text
    assert "| mixed | throughput, any | bentoml | 2 [1.5, 3] | 3 [3, 3] |" in text
    assert "| mixed, 70% load | latency p99 of 30, any | bentoml |" in text
    assert '"max_batch_size": 8' in text
    assert "; 3 rounds;" in text


def test_the_picture_has_a_bar_for_each_side_of_each_case(results: Results) -> None:
    picture = ElementTree.fromstring(plot(results))
    space = "{http://www.w3.org/2000/svg}"
    assert len(picture.findall(f"{space}rect")) == 1 + 3 * 2  # throughput, p50, p99
    texts = [text.text for text in picture.findall(f"{space}text")]
    assert texts.count("predictor") == texts.count("bentoml") == 3
    assert "mixed: throughput (any)" in texts
    assert "mixed, 70% load: p99 (any)" in texts


def test_nothing_measured_is_no_error(tmp_path: Path) -> None:
    results = Results.create(tmp_path / "results.csv", Settings())
    assert "not measured" in report(results)
    assert ElementTree.fromstring(plot(results)).tag.endswith("svg")


def test_a_run_is_published_and_a_later_one_takes_its_place(tmp_path: Path, results: Results) -> None:
    pages = [tmp_path / "docs" / "benchmarks.md", tmp_path / "README.md"]
    for page in pages:
        page.parent.mkdir(exist_ok=True)
        page.write_text(f"before\n\n{BEGIN}\nnothing yet\n{END}\n\nafter\n")
    publish(tmp_path, tmp_path)
    published = [page.read_text() for page in pages]
    for text in published:
        assert text.startswith(f"before\n\n{BEGIN}\n")
        assert text.endswith(f"{END}\n\nafter\n")
        assert "| mixed throughput to BentoML | ≥ 2.5 | 3 [3, 3] | yes |" in text
    assert "| padding of the UNet's rows |" in published[0]
    assert "padding" not in published[1]
    assert Results.read(tmp_path / FOLDER / "results.csv").rows == results.rows
    publish(tmp_path / FOLDER, tmp_path)
    assert [page.read_text() for page in pages] == published


def test_a_run_with_a_name_is_published_beside_the_main_one(tmp_path: Path, results: Results) -> None:
    begin, end = marks("long-jobs")
    page, readme = tmp_path / "docs" / "benchmarks.md", tmp_path / "README.md"
    page.parent.mkdir()
    page.write_text(f"{BEGIN}\nthe main one\n{END}\n\n{begin}\n{end}\n")
    readme.write_text(f"{BEGIN}\nthe main one\n{END}\n")
    publish(tmp_path, tmp_path, "long-jobs")
    assert readme.read_text() == f"{BEGIN}\nthe main one\n{END}\n"
    text = page.read_text()
    assert text.startswith(f"{BEGIN}\nthe main one\n{END}\n\n{begin}\n")
    assert "| mixed throughput to BentoML | ≥ 2.5 | 3 [3, 3] | yes |" in text
    assert "not measured" not in text
    assert Results.read(tmp_path / FOLDER / "long-jobs" / "results.csv").rows == results.rows


def test_a_page_without_a_place_is_refused() -> None:
    with pytest.raises(NoPlace):
        placed("a page", "results")


@pytest.mark.parametrize(
    "measured", sorted((ROOT / FOLDER).rglob("results.csv")), ids=lambda path: path.parent.name
)
def test_what_the_documentation_says_is_what_was_measured(measured: Path) -> None:
    name = measured.parent.relative_to(ROOT / FOLDER).as_posix().removeprefix(".")
    results = Results.read(measured)
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert placed(page, page_part(results, name), name) == page
    if not name:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        assert placed(readme, readme_part(results)) == readme
