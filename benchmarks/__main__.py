"""`python -m benchmarks`: the predictor beside other servers; the results go to out/bench."""

import math
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.plot import plot
from benchmarks.process import ProcessFailed
from benchmarks.profiles import read_settings
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
from benchmarks.settings import Settings

MEASURE: dict[str, Callable[[Bench, int], None]] = {
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


def compare(settings: Settings, out: Path, clock: Callable[[], float] = time.monotonic) -> Results:
    """Run the rounds; what is measured stays written if it is cut off."""
    results = Results.create(out / "results.csv", settings)
    began = clock()

    def say(what: str) -> None:
        print(f"{clock() - began:7.0f} s  {what}", flush=True)

    end = began + settings.minutes * 60 if settings.minutes else math.inf
    limit = f", {settings.minutes:g} minutes at most" if settings.minutes else ""
    say(f"{settings.repeats} rounds{limit}; results go to {out}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        try:
            with Bench(settings, results, Path(folder)) as bench:
                say("start and warm up: " + ", ".join(settings.sides))
                bench.start(settings.sides)
                say("pictures: all sides draw alike?")
                pictures.check(bench)
                took: dict[str, float] = {}
                for repeat in range(settings.repeats):
                    number = f"round {repeat + 1} of {settings.repeats}"
                    for name in settings.scenarios:
                        started = clock()
                        if started + took.get(name, 0.0) > end:
                            say(f"{number}: no time for {name}")
                            continue
                        say(f"{number}: {name}")
                        with bench.forgiving(name, repeat):
                            MEASURE[name](bench, repeat)
                        took[name] = clock() - started
                    write(results, out)
                    still = (settings.repeats - repeat - 1) * sum(took.values())
                    say(f"{number} is done; {still / 60:.0f} minutes to go")
        finally:
            write(results, out)
    return results


def write(results: Results, out: Path) -> None:
    """The report and the picture of what was measured so far."""
    (out / "report.md").write_text(report(results), encoding="utf-8")
    (out / "results.svg").write_text(plot(results), encoding="utf-8")


if __name__ == "__main__":
    main()
