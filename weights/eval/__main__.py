"""`python -m weights eval`: the bars of the embedded model, measured.

`compositions` draws the sheet that is judged by eye; `service` judges sentences through a running service;
`judge` trains the judge anew.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from weights.eval.compositions import load_compositions
from weights.eval.drawing import Drawing
from weights.eval.judge import FILE, Judge, train_judge
from weights.eval.quality import measure
from weights.eval.service import judge_service, report
from weights.glyphs.dataset import LOOKS, load_glyphs, load_pictures, on_white

SERVICE_BAR = 0.80
BARS = {"emoji_right": 0.90, "look_right": 0.98, "crispness": 0.85}


def labelled_sheet(rows: list[tuple[str, list[npt.NDArray[np.uint8]]]], columns: int, file: Path) -> None:
    """Pictures in cells under their prompts; a cell holds one picture a look, side by side."""
    width, height = 128 * len(rows[0][1]) + 8, 128 + 22
    sheet = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (label, pictures) in enumerate(rows):
        x, y = number % columns * width, number // columns * height
        pen.text((x + 4, y + 3), f"{number + 1}. {label}", fill="black", font=font)
        sheet.paste(Image.fromarray(np.concatenate(pictures, axis=1)), (x + 4, y + 20))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, optimize=True)


def evaluate(drawing: Drawing, out: Path, seeds: int, batch: int) -> bool:
    """Draw every covered emoji in both looks, measure, write `quality.json`; True if all bars hold."""
    judge, glyphs = Judge(), load_glyphs()
    indices = [i for i in range(len(glyphs)) for _ in range(seeds)]
    chosen = [1000 + n for n in range(len(indices))]
    figures: dict[str, object] = {"settings": drawing.settings, "seeds": seeds, "bars": BARS}
    passed = True
    for look in LOOKS:
        drawn = []
        for start in tqdm(range(0, len(indices), batch), desc=look):
            part = slice(start, start + batch)
            drawn.append(drawing.draw(look, [glyphs[i].name for i in indices[part]], chosen[part]))
        pictures = np.concatenate(drawn)
        quality = measure(look, indices, pictures, judge)
        ceiling = measure(look, range(len(glyphs)), drawing.reconstruct(on_white(load_pictures(look))), judge)
        figures[look] = asdict(quality) | {"autoencoder": asdict(ceiling)}
        for bar, least in BARS.items():
            value = getattr(quality, bar)
            passed &= value >= least
            print(f"{look:10} {bar:12} {value:.3f} {'≥' if value >= least else '< (missed)'} {least}")
        print(f"{look:10} nearest real glyph right {quality.nearest_right:.3f}")
        print(
            f"{look:10} real glyphs after the autoencoder: "
            f"emoji {ceiling.emoji_right:.3f}, look {ceiling.look_right:.3f}"
        )
        labelled_sheet(
            [(glyphs[i].name, [pictures[n]]) for n, i in enumerate(indices)][::seeds], 12, out / f"{look}.png"
        )
    (out / "quality.json").write_text(
        json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    return passed


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 when every bar holds, 1 when one is missed."""
    parser = argparse.ArgumentParser(prog="python -m weights eval", description=__doc__)
    parser.add_argument(
        "what", nargs="?", default="emoji", choices=("emoji", "compositions", "service", "judge")
    )
    parser.add_argument("--model_dir", type=Path, default=Path(__file__).resolve().parent.parent / "embedded")
    parser.add_argument("--out", type=Path, default=Path("out/quality"))
    parser.add_argument("--seeds", type=int, default=2, help="seeds an emoji and look")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="of the service to judge")
    parser.add_argument("--sentences", type=Path, help="JSONL of sentences for the service")
    args = parser.parse_args(argv)
    if args.what == "judge":
        print(json.dumps(train_judge(), indent=1), f"→ {FILE}")
        return 0
    args.out.mkdir(parents=True, exist_ok=True)
    if args.what == "service":
        if args.sentences is None:
            parser.error("service needs --sentences")
        try:
            outcomes = judge_service(args.url, args.sentences)
        except httpx.ConnectError:
            parser.exit(2, f"No service answers at {args.url}; `make run` starts one.\n")
        print(report(outcomes))
        (args.out / "service.md").write_text(report(outcomes), encoding="utf-8")
        return 0 if sum(outcome.right for outcome in outcomes) >= SERVICE_BAR * len(outcomes) else 1
    drawing = Drawing(args.model_dir, LOOKS, args.device)
    if args.what == "emoji":
        return 0 if evaluate(drawing, args.out, args.seeds, args.batch) else 1
    compositions = load_compositions()
    prompts = [composition.prompt for composition in compositions]
    seeds = list(range(len(prompts)))
    drawn = [drawing.draw(look, prompts, seeds) for look in LOOKS]
    rows = [(prompt, [look[n] for look in drawn]) for n, prompt in enumerate(prompts)]
    labelled_sheet(rows, 6, args.out / "compositions.png")
    print(f"{len(rows)} compositions → {args.out / 'compositions.png'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
