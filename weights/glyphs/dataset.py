"""Reads the glyph data set: names and keywords from `glyphs.json`, pictures from one sheet a look.

Knows nothing of training, of diffusion or of where the glyphs came from (that is `weights.glyphs.build`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

DATA = Path(__file__).resolve().parent.parent / "data"
LOOKS = ("notoemoji", "openmoji")
SIZE = 128
COLUMNS = 17


@dataclass(frozen=True, slots=True)
class Glyph:
    """One emoji: its character, CLDR short name and keywords in English and Korean, and its group."""

    char: str
    name: str
    keywords: tuple[str, ...]
    name_ko: str
    keywords_ko: tuple[str, ...]
    group: str
    subgroup: str


@lru_cache(maxsize=1)
def load_glyphs(folder: Path = DATA) -> tuple[Glyph, ...]:
    """All covered emoji, in the order of the sheets."""
    entries = json.loads((folder / "glyphs.json").read_text(encoding="utf-8"))
    return tuple(
        Glyph(
            char=entry["char"],
            name=entry["name"],
            keywords=tuple(entry["keywords"]),
            name_ko=entry["name_ko"],
            keywords_ko=tuple(entry["keywords_ko"]),
            group=entry["group"],
            subgroup=entry["subgroup"],
        )
        for entry in entries
    )


@lru_cache(maxsize=2)
def load_pictures(look: str, folder: Path = DATA) -> npt.NDArray[np.uint8]:
    """Pictures of one look, uint8 RGBA [N, 128, 128, 4], straight alpha, in the order of `load_glyphs`."""
    sheet = np.asarray(Image.open(folder / f"{look}.png").convert("RGBA"))
    rows = sheet.shape[0] // SIZE
    tiles = sheet.reshape(rows, SIZE, COLUMNS, SIZE, 4).transpose(0, 2, 1, 3, 4).reshape(-1, SIZE, SIZE, 4)
    return np.ascontiguousarray(tiles[: len(load_glyphs(folder))])


def on_white(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Composite uint8 RGBA [..., 4] over white; returns uint8 RGB [..., 3]."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)
