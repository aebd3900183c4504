"""Paints a glyph's main colour another colour, keeping its shading, highlights and outlines.

Works on any RGBA picture; knows nothing of emoji names or of training.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (229, 52, 46),
    "orange": (250, 140, 22),
    "yellow": (253, 216, 40),
    "green": (84, 176, 55),
    "blue": (40, 110, 220),
    "purple": (146, 68, 190),
    "pink": (250, 136, 180),
    "brown": (130, 84, 58),
    "black": (52, 52, 54),
    "white": (240, 240, 242),
    "gray": (148, 152, 156),
}

HUE_WINDOW = 0.11  # of the colour circle, either side of the main hue
SATURATED = 0.25
DARK = 0.22  # below this value a pixel is an outline and stays as it is


def hue_saturation_value(rgb: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ...]:
    """HSV of float RGB in [0, 1], shape [..., 3]; hue, saturation and value in [0, 1], shape [...]."""
    value = rgb.max(-1)
    chroma = value - rgb.min(-1)
    safe = np.maximum(chroma, 1e-6)
    r, g, b = np.moveaxis(rgb, -1, 0)
    hue = (
        np.where(value == r, (g - b) / safe % 6, np.where(value == g, (b - r) / safe + 2, (r - g) / safe + 4))
        / 6
    )
    return hue.astype(np.float32), (chroma / np.maximum(value, 1e-6)).astype(np.float32), value


def main_colour_mask(rgba: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Soft mask [H, W] in [0, 1] of the pixels that carry the picture's main colour.

    That is the most common hue, or, where saturated pixels are rare (a cloud, an elephant), all light greys.
    """
    rgb = (rgba[..., :3] / 255).astype(np.float32)
    alpha = (rgba[..., 3] / 255).astype(np.float32)
    hue, saturation, value = hue_saturation_value(rgb)
    coloured = (saturation > SATURATED) & (value > DARK) & (alpha > 0.5)
    grey = (saturation <= SATURATED) & (value > DARK) & (alpha > 0.5)
    if coloured.sum() < 0.35 * grey.sum():
        return np.clip((value - DARK) / 0.15, 0, 1) * np.clip((SATURATED + 0.1 - saturation) / 0.1, 0, 1)
    histogram = np.bincount((hue[coloured] * 36).astype(int) % 36, weights=saturation[coloured], minlength=36)
    smooth = histogram + 0.7 * (np.roll(histogram, 1) + np.roll(histogram, -1))
    main = (smooth.argmax() + 0.5) / 36
    distance = np.abs((hue - main + 0.5) % 1 - 0.5)
    near = np.clip((HUE_WINDOW - distance) / 0.03, 0, 1)
    return near * np.clip((saturation - 0.12) / 0.15, 0, 1) * np.clip((value - 0.12) / 0.12, 0, 1)


def recolour(rgba: npt.NDArray[np.uint8], colour: str) -> npt.NDArray[np.uint8]:
    """`rgba` [H, W, 4] uint8 with its main colour painted `colour` (a key of COLOURS)."""
    rgb = rgba[..., :3].astype(np.float32) / 255
    mask = main_colour_mask(rgba)
    target = np.asarray(COLOURS[colour], np.float32) / 255
    light = rgb @ np.asarray([0.35, 0.5, 0.15], np.float32)
    weight = mask * (rgba[..., 3] / 255)
    if weight.sum() < 1:
        return rgba
    middle = np.median(light[weight > 0.5]) if (weight > 0.5).any() else 0.5
    shade = np.clip(light / max(middle, 1e-3), 0.25, 1)[..., None]
    shine = np.clip((light - middle) / max(1 - middle, 1e-3), 0, 1)[..., None]
    painted = target * shade * (1 - shine) + shine * np.minimum(1, target * 0.5 + 0.5)
    blended = rgb + (painted - rgb) * mask[..., None]
    return np.concatenate([np.rint(blended * 255).astype(np.uint8), rgba[..., 3:]], axis=-1)
