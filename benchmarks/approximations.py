"""What approximations lose and gain: how often they still draw the right emoji, how far they are from the
exact pictures, and in what share of the time.

`python -m benchmarks.approximations` draws every emoji that the embedded model knows in both looks, exactly
and by each approximation in turn. `--write` leaves what they lose in the base's folder, for replies to tell.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from predictor.approximations import FILE, Approximation, read_approximations
from predictor.contract import EXACT
from predictor.diffusion.diffuser import Diffuser
from predictor.diffusion.row import Row
from weights.base import read_base
from weights.eval.judge import Judge
from weights.glyphs.dataset import LOOKS, load_glyphs
from weights.store import Store

EMBEDDED = Path(__file__).parents[1] / "weights" / "embedded"
FIRST_SEED = 1000


@dataclass(frozen=True, slots=True)
class Task:
    """A picture that the judge can judge."""

    row: Row
    emoji: str
    look: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """All pictures, uint8 [N, H, W, 3], the seconds of each batch, and those of its decoding."""

    pictures: NDArray[np.uint8]
    seconds: list[float]
    decoding: list[float]


def tasks(diffuser: Diffuser, loras: Mapping[str, str], seeds: int, most: int | None) -> list[Task]:
    """Every emoji in every look, or `most` of them by lot."""
    height, width = diffuser.native_size
    defaults = diffuser.defaults
    found = []
    for number, glyph in enumerate(load_glyphs() * seeds):
        for look, version in loras.items():
            row = Row(
                prompt=glyph.name,
                negative_prompt="",
                seed=FIRST_SEED + number,
                steps=defaults.steps,
                guidance=defaults.guidance,
                loras=((version, 1.0),),
                height=height,
                width=width,
                solver=defaults.solver,
            )
            found.append(Task(row, glyph.char, look))
    return Random(0).sample(found, most) if most else found


def draw(diffuser: Diffuser, rows: Sequence[Row]) -> Drawn:
    """Rows that begin together and are approximated alike."""
    began = time.perf_counter()
    samples = diffuser.begin(rows)
    while not samples[0].finished:
        diffuser.step(samples)
    denoised = time.perf_counter()
    pictures = [picture for picture in diffuser.decode(samples) if not isinstance(picture, Exception)]
    decoded = time.perf_counter()
    if len(pictures) < len(rows):
        raise SystemExit("a picture is no picture")
    return Drawn(np.stack(pictures), [decoded - began], [decoded - denoised])


def draw_all(
    diffuser: Diffuser, found: Sequence[Task], ways: Mapping[str, Approximation], batch: int
) -> dict[str, Drawn]:
    """Batch by batch in all ways, each time another one first, so that a slow moment is no way's own."""
    batches: dict[str, list[Drawn]] = {name: [] for name in ways}
    names = list(ways)
    for name in names:  # the first calls of their kind take longer
        draw(diffuser, [replace(task.row, **ways[name].changes) for task in found[:batch]])
    for number, start in enumerate(range(0, len(found), batch)):
        rows = [task.row for task in found[start : start + batch]]
        first = number % len(names)
        for name in names[first:] + names[:first]:
            batches[name].append(draw(diffuser, [replace(row, **ways[name].changes) for row in rows]))
        print(f"\r{min(start + batch, len(found))} of {len(found)}", end="", flush=True)
    print()
    return {
        name: Drawn(
            np.concatenate([batch.pictures for batch in own]),
            [seconds for batch in own for seconds in batch.seconds],
            [seconds for batch in own for seconds in batch.decoding],
        )
        for name, own in batches.items()
    }


def shares(found: Sequence[Task], pictures: NDArray[np.uint8], judge: Judge) -> tuple[float, float]:
    """Of the pictures, the share with the right emoji, and with the right look."""
    verdicts = judge.judge(pictures)
    right = [verdict.char == task.emoji for verdict, task in zip(verdicts, found, strict=True)]
    looks = [verdict.look == task.look for verdict, task in zip(verdicts, found, strict=True)]
    return float(np.mean(right)), float(np.mean(looks))


def quality(found: Sequence[Task], exact: Drawn, other: Drawn) -> dict[str, object]:
    """What a reply tells: rights in both ways, and the distance in levels of 255 and in decibels."""
    judge = Judge()
    emoji_exact, look_exact = shares(found, exact.pictures, judge)
    emoji, look = shares(found, other.pictures, judge)
    difference = exact.pictures.astype(np.float32) - other.pictures
    square = float(np.mean(difference**2))
    row = found[0].row
    return {
        "pictures": len(found),
        "right_emoji": round(emoji, 4),
        "right_emoji_exact": round(emoji_exact, 4),
        "right_look": round(look, 4),
        "right_look_exact": round(look_exact, 4),
        "mean_absolute_error": round(float(np.abs(difference).mean()), 2),
        "psnr_db": round(float(10 * np.log10(255**2 / square)), 1) if square else None,
        "exact": {
            "num_inference_steps": row.steps,
            "guidance_scale": row.guidance,
            "solver": row.solver,
            "lora": sorted({name for task in found for name, _ in task.row.loras}),
        },
    }


def candidates(texts: Sequence[str]) -> dict[str, Approximation]:
    """Other numbers of steps and solvers to look at, each as solver:steps."""
    found = {}
    for text in texts:
        solver, _, steps = text.partition(":")
        found[text] = Approximation({"solver": solver, "steps": int(steps)}, {})
    return found


def main() -> None:
    """Draw, print a table, and with --write leave it in the base's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model_dir", type=Path, default=EMBEDDED)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=8, help="pictures drawn together")
    parser.add_argument("--seeds", type=int, default=1, help="pictures of each emoji and look")
    parser.add_argument("--pictures", type=int, metavar="N", help="no more than N of them")
    parser.add_argument(
        "--try", dest="candidates", nargs="*", default=[], metavar="SOLVER:STEPS", help="what else to compare"
    )
    parser.add_argument("--write", action="store_true", help=f"write base/{FILE}")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    base = given.model_dir / "base"
    diffuser = Diffuser.load(base, device=given.device)
    store = Store(given.model_dir / "loras")
    loras = {}
    for look in LOOKS:
        version = store.resolve(look)
        loras[look] = str(version)
        diffuser.add_adapter(str(version), store.load(version))
    offered = read_approximations(base, diffuser)
    found = tasks(diffuser, loras, given.seeds, given.pictures)
    drawn = draw_all(diffuser, found, offered | candidates(given.candidates), given.batch)
    measured = {name: quality(found, drawn[EXACT], other) for name, other in drawn.items()}
    for name, numbers in measured.items():
        own = drawn[name]
        part = median(np.divide(own.seconds, drawn[EXACT].seconds))
        decoding = median(np.divide(own.decoding, own.seconds))
        print(
            f"{name:16} time {part:.2f}, of which decoding {decoding:.2f}  "
            + "  ".join(f"{key} {value}" for key, value in numbers.items() if key != "exact")
        )
    if given.write:
        write(base, {name: measured[name] for name in offered if name != EXACT})


def write(base: Path, measured: Mapping[str, object]) -> None:
    """Puts what was measured beside what the base's file says already."""
    file = base / FILE
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    content |= {"base": read_base(base).sha256, "quality": measured}
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"→ {file}")


if __name__ == "__main__":
    main()
