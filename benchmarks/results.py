"""What was measured: one number a row, in a CSV file that begins with the settings it was measured with."""

import csv
import json
import os
import platform
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Any, Self

from benchmarks.settings import Settings

FAILED = "failed"
"""The scenario under which turns that failed are noted; the case is their own scenario."""


@dataclass(frozen=True, slots=True)
class Result:
    """One number: of which side, in which scenario and case, in which repeat."""

    scenario: str
    case: str
    side: str
    repeat: int
    metric: str
    value: float
    unit: str


class Results:
    """All numbers of one comparison; each is on the disk as soon as it is known."""

    def __init__(self, about: dict[str, Any], rows: list[Result], file: Path | None = None) -> None:
        self.about = about
        self.rows = rows
        self._file = file

    @classmethod
    def create(cls, file: Path, settings: Settings) -> Self:
        """A new file."""
        plain = {
            name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()
        }
        about = {"settings": plain, "machine": _machine()}
        with file.open("w", encoding="utf-8", newline="") as stream:
            stream.write(f"# {json.dumps(about)}\n")
            csv.writer(stream).writerow(field.name for field in fields(Result))
        return cls(about, [], file)

    @classmethod
    def read(cls, file: Path) -> Self:
        """A file that was written."""
        with file.open(encoding="utf-8", newline="") as stream:
            about = json.loads(stream.readline().removeprefix("# "))
            rows = [_result(*row) for row in list(csv.reader(stream))[1:]]
        return cls(about, rows)

    def add(self, result: Result) -> None:
        """Keep a number."""
        self.rows.append(result)
        if self._file is not None:
            with self._file.open("a", encoding="utf-8", newline="") as stream:
                csv.writer(stream).writerow(astuple(result))

    def runs(self, scenario: str, case: str, side: str, metric: str) -> dict[int, list[float]]:
        """The numbers of each repeat, in the order of the repeats."""
        found: dict[int, list[float]] = {}
        for row in self.rows:
            if (row.scenario, row.case, row.side, row.metric) == (scenario, case, side, metric):
                found.setdefault(row.repeat, []).append(row.value)
        return dict(sorted(found.items()))

    def values(self, scenario: str, case: str, side: str, metric: str) -> list[float]:
        """The numbers of all repeats, in their order."""
        return [value for values in self.runs(scenario, case, side, metric).values() for value in values]


def _result(scenario: str, case: str, side: str, repeat: str, metric: str, value: str, unit: str) -> Result:
    return Result(scenario, case, side, int(repeat), metric, float(value), unit)


def _machine() -> dict[str, Any]:
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return {
        "cores": os.cpu_count(),
        "processor": model or platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
        "load_before": os.getloadavg()[0],
    }
