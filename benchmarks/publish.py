"""Puts the results of a run into the documentation: `python -m benchmarks.publish out/bench/<date>-<time>`.

The CSV, the whole report and the picture go to docs/benchmarks/. What docs/benchmarks.md and README.md say of
them stands there between two comments and is made from the CSV alone.
"""

import argparse
import shutil
from pathlib import Path

from benchmarks.goals import goals
from benchmarks.plot import plot
from benchmarks.report import about, report, table
from benchmarks.results import Results

ROOT = Path(__file__).parents[1]
FOLDER = Path("docs") / "benchmarks"
PAGE, README = Path("docs") / "benchmarks.md", Path("README.md")
BEGIN, END = "<!-- made by make bench-publish: begin -->", "<!-- made by make bench-publish: end -->"
IN_README = (
    "either: mixed throughput to plain diffusers",
    "or: mixed throughput to the bound",
    "mixed throughput to BentoML",
    "homogeneous throughput to BentoML",
    "mixed p99",
    "p99 of short jobs",
    "a step, every row another LoRA",
)


class NoPlace(ValueError):
    """A page lacks the comments between which the results belong."""


def publish(run: Path, root: Path = ROOT) -> None:
    """Make docs/benchmarks/ and the two pages' parts from results.csv of a run.

    Raises:
        NoPlace: a page has no place for them.
        OSError: there is no such run.
    """
    folder = root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    if run.resolve() != folder.resolve():
        shutil.copyfile(run / "results.csv", folder / "results.csv")
    results = Results.read(folder / "results.csv")
    (folder / "report.md").write_text(report(results), encoding="utf-8")
    (folder / "results.svg").write_text(plot(results), encoding="utf-8")
    for page, text in ((PAGE, page_part(results)), (README, readme_part(results))):
        path = root / page
        path.write_text(placed(path.read_text(encoding="utf-8"), text), encoding="utf-8")


def page_part(results: Results) -> str:
    """All goals, for docs/benchmarks.md."""
    return "\n".join(
        [
            about(results),
            "",
            *table(results, goals(results)),
            "",
            f"Every number is in [the report]({FOLDER.name}/report.md) "
            f"and in [the CSV]({FOLDER.name}/results.csv).",
            "",
            f"![Throughput, latency and goodput of every side]({FOLDER.name}/results.svg)",
        ]
    )


def readme_part(results: Results) -> str:
    """The most telling goals, for README.md."""
    chosen = [goal for goal in goals(results) if goal.text.startswith(IN_README)]
    settings, machine = results.about["settings"], results.about["machine"]
    steps = "/".join(map(str, settings["steps"]))
    return "\n".join(
        [
            f"Beside other servers, on {machine['processor']} with {machine['cores']} cores, jobs of "
            f"{steps} steps ([all of it, and what bounds it]({PAGE.as_posix()}#results)):",
            "",
            *table(results, chosen),
        ]
    )


def placed(page: str, text: str) -> str:
    """The page with the text between its comments.

    Raises:
        NoPlace: it has none, or not one pair of them.
    """
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise NoPlace(f"the page needs one {BEGIN} and one {END}")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> None:
    """Publish the run that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a folder with results.csv")
    publish(parser.parse_args().run)


if __name__ == "__main__":
    main()
