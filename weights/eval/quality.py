"""Measures pictures against the real glyphs: right emoji, right look, nearest glyph, crispness.

Knows pictures only; who drew them is `weights.eval.drawing`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from weights.eval.judge import Judge, real_pictures, shrink
from weights.glyphs.dataset import load_glyphs, load_pictures, on_white


@dataclass(frozen=True, slots=True)
class Quality:
    """Shares (0 to 1) of the pictures of one look; crispness is a ratio to the real glyphs'."""

    pictures: int
    emoji_right: float
    look_right: float
    nearest_right: float
    crispness: float
    mistaken: tuple[str, ...]


def laplacian_energy(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Mean absolute four-neighbour Laplacian of each uint8 picture [N, H, W, 3] in 0..255 units, [N]."""
    p = pictures.astype(np.float32)
    lap = p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:] - 4 * p[:, 1:-1, 1:-1]
    return np.abs(lap).mean((1, 2, 3)).astype(np.float64)


def nearest_glyph(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Index of the real glyph (of either look) with the least squared difference at 32x32, [N]."""
    real = real_pictures()
    drawn = shrink(pictures).flatten(1)
    distances = torch.cdist(drawn, real.flatten(0, 1).flatten(1))
    return (distances.argmin(1) % real.shape[1]).numpy()


def measure(look: str, indices: Sequence[int], pictures: npt.NDArray[np.uint8], judge: Judge) -> Quality:
    """`pictures` uint8 [N, 128, 128, 3] drawn for the glyphs at `indices`, in `look`."""
    glyphs = load_glyphs()
    verdicts = judge.judge(pictures)
    real = on_white(load_pictures(look))[list(indices)]
    right = [verdict.char == glyphs[i].char for verdict, i in zip(verdicts, indices, strict=True)]
    names = {glyph.char: glyph.name for glyph in glyphs}
    mistaken = [
        f"{glyphs[i].name} → {names[verdict.char]}"
        for verdict, i, ok in zip(verdicts, indices, right, strict=True)
        if not ok
    ]
    return Quality(
        pictures=len(pictures),
        emoji_right=float(np.mean(right)),
        look_right=float(np.mean([verdict.look == look for verdict in verdicts])),
        nearest_right=float(np.mean(nearest_glyph(pictures) == np.asarray(indices))),
        crispness=float(laplacian_energy(pictures).mean() / laplacian_energy(real).mean()),
        mistaken=tuple(sorted(set(mistaken))),
    )
