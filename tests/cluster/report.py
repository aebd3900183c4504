"""The evidence of a run: report.md for people, report.json for programs, and the pictures.

It is written anew after every test, so that an interrupted run leaves what it has. It knows no cluster.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.cluster.load import Outcome, by_lora, failed, quantile


@dataclass
class Section:
    """What one test saw."""

    name: str
    title: str
    pictures_folder: Path
    result: str = "not finished"
    seconds: float = 0.0
    facts: dict[str, object] = field(default_factory=dict)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    """File names, with what they show."""

    def fact(self, name: str, value: object) -> None:
        """A number or text; also printed, for who watches."""
        self.facts[name] = value
        print(f"  {self.name}: {name}: {value}", flush=True)

    def load(self, name: str, outcomes: list[Outcome]) -> None:
        """The account of a load."""
        self.fact(
            name,
            {
                "requests": len(outcomes),
                "failed": len(failed(outcomes)),
                "failures": failed(outcomes)[:20],
                "by version": dict(by_lora(outcomes)),
                "median s": round(quantile(outcomes, 0.5), 2),
                "p95 s": round(quantile(outcomes, 0.95), 2),
                "longest s": round(max(o.took for o in outcomes), 2),
            },
        )

    def picture(self, caption: str, png: bytes) -> None:
        """A picture as it came."""
        file = f"{self.name}-{len(self.pictures) + 1}.png"
        self.pictures_folder.mkdir(parents=True, exist_ok=True)
        (self.pictures_folder / file).write_bytes(png)
        self.pictures.append((file, caption))


class Report:
    """All sections of a run, in a folder."""

    def __init__(self, folder: Path, machine: dict[str, object]) -> None:
        self.folder = folder
        self.machine = machine
        self.sections: list[Section] = []
        self._began = time.time()

    def section(self, name: str, title: str) -> Section:
        """A new one, at the end."""
        section = Section(name, title, self.folder / "pictures")
        self.sections.append(section)
        return section

    def write(self) -> None:
        """Both files, anew."""
        self.folder.mkdir(parents=True, exist_ok=True)
        began = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self._began))
        sections = [{k: v for k, v in asdict(s).items() if k != "pictures_folder"} for s in self.sections]
        document = {"began": began, "machine": self.machine, "tests": sections}
        text = json.dumps(document, ensure_ascii=False, indent=1, default=str)
        (self.folder / "report.json").write_text(text + "\n", encoding="utf-8")
        lines = [f"# Cluster tests of {began}", ""]
        lines += [f"- {name}: {value}" for name, value in self.machine.items()]
        lines += ["", "| test | result | seconds |", "|---|---|---|"]
        lines += [f"| [{s.title}](#{s.name}) | {s.result} | {s.seconds:.0f} |" for s in self.sections]
        for section in self.sections:
            lines += ["", f'<a id="{section.name}"></a>', f"## {section.title}", ""]
            lines += [f"- {line}" for name, value in section.facts.items() for line in _lines(name, value)]
            lines += [""] + [
                f'<img src="pictures/{file}" alt="{caption}" title="{caption}" width="128">'
                for file, caption in section.pictures
            ]
        (self.folder / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _lines(name: str, value: object) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}: " + ", ".join(f"{key} {v}" for key, v in value.items())]
    if isinstance(value, list):
        return [f"{name}:", *(f"  - {item}" for item in value)]
    return [f"{name}: {value}"]
