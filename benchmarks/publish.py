"""Puts the results of a run into the documentation: `python -m benchmarks.publish out/bench/<date>-<time>`.

The CSV, the whole report and the picture go to docs/benchmarks/. What docs/benchmarks.md and README.md say of
them stands there between two comments and is made from the CSV alone. A run with a name goes to a folder of
its own, and to a place of its own in docs/benchmarks.md alone.
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


def publish(run: Path, root: Path = ROOT, name: str = "") -> None:
    """Make docs/benchmarks/ and the pages' parts from results.csv of a run.

    Raises:
        NoPlace: a page has no place for them.
        OSError: there is no such run.
    """
    folder = root / FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    if run.resolve() != folder.resolve():
        shutil.copyfile(run / "results.csv", folder / "results.csv")
    results = Results.read(folder / "results.csv")
    (folder / "report.md").write_text(report(results), encoding="utf-8")
    (folder / "results.svg").write_text(plot(results), encoding="utf-8")
    pages = {PAGE: page_part(results, name)}
    if not name:
        pages[README] = readme_part(results)
    for page, text in pages.items():
        path = root / page
        path.write_text(placed(path.read_text(encoding="utf-8"), text, name), encoding="utf-8")


def page_part(results: Results, name: str = "") -> str:
    """All goals, for docs/benchmarks.md; of a run with a name those that it measured."""
    folder = (Path(FOLDER.name) / name).as_posix()
    wanted = [goal for goal in goals(results) if not name or goal.estimate(results) is not None]
    return "\n".join(
        [
            about(results),
            "",
            *table(results, wanted),
            "",
            f"Every number is in [the report]({folder}/report.md) and in [the CSV]({folder}/results.csv).",
            "",
            f"![Throughput, latency and goodput of every side]({folder}/results.svg)",
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


def marks(name: str = "") -> tuple[str, str]:
    """The comments between which the results of a run belong."""
    made = f"made by make bench-publish{f' NAME={name}' if name else ''}"
    return f"<!-- {made}: begin -->", f"<!-- {made}: end -->"


def placed(page: str, text: str, name: str = "") -> str:
    """The page with the text between its comments.

    Raises:
        NoPlace: it has none, or not one pair of them.
    """
    begin, end = marks(name)
    if page.count(begin) != 1 or page.count(end) != 1:
        raise NoPlace(f"the page needs one {begin} and one {end}")
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{text}\n{end}{after}"


def main() -> None:
    """Publish the run that was named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a folder with results.csv")
    parser.add_argument("--name", default="", help="of a run beside the main one")
    given = parser.parse_args()
    publish(given.run, name=given.name)


if __name__ == "__main__":
    main()
