"""Builds the glyph data set from the Noto Color Emoji font, OpenMoji's SVGs and CLDR's names.

Run by hand when the selection changes (`make glyphs`); its results are kept in the repository, so that
training and judging need neither font nor npm. Knows nothing of training.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image, ImageDraw, ImageFont

from weights.glyphs.dataset import COLUMNS, DATA, SIZE

NOTO_STRIKE = 109  # the one bitmap size in NotoColorEmoji.ttf; its glyphs are 136 x 128
OPENMOJI_VIEWBOX = ('viewBox="0 0 72 72"', 'viewBox="3 3 66 66"')  # crop the margin of the canvas


def noto(char: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """The Noto glyph of `char` as RGBA 128x128; ValueError when the font has no colour glyph for it."""
    canvas = Image.new("RGBA", (136, 136), (255, 255, 255, 0))
    draw = ImageDraw.Draw(canvas)
    left, top, right, _ = draw.textbbox((0, 0), char, font=font, embedded_color=True)
    draw.text((-left, 4 - top), char, font=font, embedded_color=True)
    if not 130 <= right - left <= 140 or canvas.getbbox() is None:
        raise ValueError(f"the font has no colour glyph for {char!r}")
    return canvas.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def openmoji(svg: Path) -> Image.Image:
    """The OpenMoji picture of an SVG file as RGBA 128x128, rendered at four times the size and reduced."""
    text = svg.read_text(encoding="utf-8").replace(*OPENMOJI_VIEWBOX)
    png = resvg_py.svg_to_bytes(svg_string=text, width=4 * SIZE)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA").resize((SIZE, SIZE), Image.Resampling.BOX)


def sheet(tiles: list[Image.Image]) -> Image.Image:
    """Tiles side by side, `COLUMNS` in a row, the last row filled with transparent ones."""
    rows = -(-len(tiles) // COLUMNS)
    grid: npt.NDArray[np.uint8] = np.zeros((rows * COLUMNS, SIZE, SIZE, 4), np.uint8)
    grid[: len(tiles)] = np.stack([np.asarray(tile) for tile in tiles])
    grid[grid[..., 3] == 0] = 0  # hidden colours only cost bytes
    return Image.fromarray(
        grid.reshape(rows, COLUMNS, SIZE, SIZE, 4).swapaxes(1, 2).reshape(rows * SIZE, -1, 4)
    )


def read_annotations(cldr: Path, language: str) -> dict[str, Any]:
    """CLDR's annotations of one language: character → {"tts": [name], "default": [keywords]}."""
    file = cldr / "annotations" / language / "annotations.json"
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["annotations"]["annotations"]
    return loaded


def clean(texts: list[str]) -> list[str]:
    """CLDR's typographic apostrophes as people type them."""
    return [text.replace("’", "'").strip() for text in texts]


def main(argv: list[str] | None = None) -> int:
    """Build `glyphs.json`, `notoemoji.png` and `openmoji.png`; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m weights.glyphs.build", description=__doc__)
    parser.add_argument("--noto", type=Path, required=True, help="NotoColorEmoji.ttf (bitmap build)")
    parser.add_argument("--openmoji", type=Path, required=True, help="folder of the npm package openmoji")
    parser.add_argument(
        "--cldr", type=Path, required=True, help="folder of the npm package cldr-annotations-full"
    )
    parser.add_argument("--out", type=Path, default=DATA)
    args = parser.parse_args(argv)

    wanted = [n.strip().lower() for n in (DATA / "selection.txt").read_text().replace("\n", ";").split(";")]
    english, korean = read_annotations(args.cldr, "en"), read_annotations(args.cldr, "ko")
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for entry in json.loads((args.openmoji / "data" / "openmoji.json").read_text(encoding="utf-8")):
        code_points = [int(c, 16) for c in entry["hexcode"].split("-") if c != "FE0F"]
        if len(code_points) == 1 and chr(code_points[0]) in english:
            char = chr(code_points[0])
            found[english[char]["tts"][0].lower()] = (char, entry)
    font = ImageFont.truetype(str(args.noto), NOTO_STRIKE)
    glyphs: list[dict[str, Any]] = []
    looks: dict[str, list[Image.Image]] = {"notoemoji": [], "openmoji": []}
    for name in filter(None, wanted):
        char, entry = found[name]
        ko = korean.get(char, {})
        glyphs.append(
            {
                "char": char,
                "name": clean([name])[0],
                "keywords": [k for k in clean(english[char].get("default", [])) if k != name],
                "name_ko": clean(ko.get("tts", [""]))[0],
                "keywords_ko": clean(ko.get("default", [])),
                "group": entry["group"],
                "subgroup": entry["subgroups"],
            }
        )
        looks["notoemoji"].append(noto(char, font))
        looks["openmoji"].append(openmoji(args.openmoji / "color" / "svg" / f"{entry['hexcode']}.svg"))
    args.out.mkdir(parents=True, exist_ok=True)
    text = "[\n" + ",\n".join(json.dumps(glyph, ensure_ascii=False) for glyph in glyphs) + "\n]\n"
    (args.out / "glyphs.json").write_text(text, encoding="utf-8")
    for look, tiles in looks.items():
        sheet(tiles).save(args.out / f"{look}.png", optimize=True)
    print(f"{len(glyphs)} glyphs in {len(looks)} looks → {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
