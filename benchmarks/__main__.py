"""`python -m benchmarks`: the predictor beside other servers; the results go to out/bench."""

import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.plot import plot
from benchmarks.process import ProcessFailed
from benchmarks.report import report
from benchmarks.results import Results
from benchmarks.scenarios import (
    drift,
    joining,
    latency,
    memory,
    overhead,
    pictures,
    starting,
    steps,
    switching,
    throughput,
)
from benchmarks.settings import Settings, read_settings

MEASURE: dict[str, Callable[[Bench], None]] = {
    "steps": steps.measure,
    "throughput": throughput.measure,
    "latency": latency.measure,
    "joining": joining.measure,
    "switching": switching.measure,
    "overhead": overhead.measure,
    "memory": memory.measure,
    "drift": drift.measure,
    "starting": starting.measure,
}


def main() -> None:
    """Compare, and write results.csv, report.md and results.svg into a new folder."""
    settings = read_settings(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that no server is left
    out = settings.out / time.strftime("%Y%m%d-%H%M%S")
    out.mkdir(parents=True)
    try:
        compare(settings, out)
    except (ProcessFailed, pictures.UnlikePictures) as error:
        sys.exit(f"benchmarks: {error}")
    print(f"{out}/report.md, results.csv and results.svg are written")


def compare(settings: Settings, out: Path) -> Results:
    """Run the scenarios; what is written stays written if one of them fails."""
    results = Results.create(out / "results.csv", settings)
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:7.0f} s  {what}", flush=True)

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            with Bench(settings, results, Path(folder)) as bench:
                say("start and warm up: " + ", ".join(settings.sides))
                bench.start(settings.sides)
                say("pictures: all sides draw alike?")
                pictures.check(bench)
                for name in settings.scenarios:
                    say(name)
                    MEASURE[name](bench)
        finally:
            (out / "report.md").write_text(report(results), encoding="utf-8")
            (out / "results.svg").write_text(plot(results), encoding="utf-8")
    say("done")
    return results


if __name__ == "__main__":
    main()
