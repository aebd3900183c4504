"""Raw pixels to an encoded picture: upscaling, a transparent background, PNG, WebP and JPEG.

Pure functions on numpy and Pillow; they block, so the server calls them in a thread. This module knows
nothing of requests, translation, the predictor or torch.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

MEDIA_TYPES: Mapping[str, str] = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}
"""The formats a picture can have, and the media type of each."""

DEFAULT_QUALITY = 90

NEAR_WHITE = 24
"""A pixel counts as background while its darkest channel is within this many levels of white."""

EDGE_PIXELS = 2
"""How far from the background a pixel may still be a blend of object and background."""

CONTRAST = 48
"""An object colour closer to white than this (Euclidean, in levels) is not taken for a blend with it."""


@dataclass(frozen=True, slots=True)
class Finish:
    """How the pixels of one request become pictures."""

    format: str = "png"
    quality: int = DEFAULT_QUALITY
    """1 to 100 for JPEG and WebP (WebP at 100 is lossless); PNG is always lossless."""
    size: int | None = None
    """Longer side of the picture in pixels; None keeps the size that was drawn."""
    transparent: bool = False
    metadata: bool = False
    """Write the text given to `encode` into the PNG."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a picture; written into a PNG as text chunks under these names."""

    prompt: str
    model: str
    seed: int
    extra: Mapping[str, str] = field(default_factory=dict)


def finish(pixels: NDArray[np.uint8], how: Finish, provenance: Provenance) -> bytes:
    """One drawn picture, uint8 [H, W, 3], as the bytes of an image file."""
    picture = Image.fromarray(remove_background(pixels) if how.transparent else pixels)
    if how.size is not None:
        picture = resize(picture, how.size)
    return encode(picture, how, provenance if how.metadata else None)


def resize(picture: Image.Image, longer_side: int) -> Image.Image:
    """Scale to a longer side in pixels, keeping the proportions, with a Lanczos filter.

    Pillow weighs colours by their alpha while it filters, so transparent pixels leave no fringe.
    """
    scale = longer_side / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def encode(picture: Image.Image, how: Finish, provenance: Provenance | None = None) -> bytes:
    """The file bytes of a picture. `provenance` goes into a PNG only (iTXt where it is not Latin-1)."""
    file = io.BytesIO()
    match how.format:
        case "png":
            picture.save(file, "PNG", pnginfo=_text_chunks(provenance) if provenance else None)
        case "webp":
            picture.save(file, "WEBP", quality=how.quality, lossless=how.quality == 100)
        case "jpeg":
            picture.save(file, "JPEG", quality=how.quality, subsampling=0)
        case unknown:
            raise ValueError(f"no picture format {unknown!r}")
    return file.getvalue()


def _text_chunks(provenance: Provenance) -> PngInfo:
    chunks = PngInfo()
    texts = {"prompt": provenance.prompt, "model": provenance.model, "seed": str(provenance.seed)}
    for key, text in (texts | dict(provenance.extra)).items():
        if text.isascii():
            chunks.add_text(key, text)
        else:
            chunks.add_itxt(key, text)
    return chunks


def remove_background(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make the white around an object transparent: uint8 [H, W, 3] -> [H, W, 4], alpha not premultiplied.

    The background is the near-white area that touches the border; white inside the object stays. A pixel
    beside it is a blend `alpha * object + (1 - alpha) * white` of the anti-aliased edge: the object's colour
    is taken from the nearest pixel further inside, alpha from where the pixel lies between the two, and the
    white is taken out again. Laid over white the result is the picture it was made from. A picture without
    near-white borders comes back opaque.
    """
    background = _connected_to_border(pixels.min(axis=2) >= 255 - NEAR_WHITE)
    edge = _grow(background, EDGE_PIXELS) & ~background
    alpha = (~background).astype(np.float32)
    # what the object took away from white, per channel; shrinks with alpha
    darkness = 255 - pixels.astype(np.float32)

    solid = ~background & ~edge
    strength = (darkness**2).sum(axis=2)
    # A line too thin to have a solid middle: its darkest pixels stand in for one.
    solid |= edge & ~_grow(solid, EDGE_PIXELS + 1) & (strength >= _fold(np.maximum, strength))
    inner = _nearest_colours(darkness, known=solid, wanted=edge)
    contrast = (inner**2).sum(axis=2)
    blend = edge & ~solid & (contrast >= CONTRAST**2)
    alpha[blend] = np.clip((darkness * inner).sum(axis=2)[blend] / contrast[blend], 0.0, 1.0)

    # No channel may need less than zero light once the white is out.
    alpha[blend] = np.maximum(alpha, darkness.max(axis=2) / 255)[blend]
    colour = 255 - darkness / np.where(alpha > 0, alpha, 1)[..., None]
    colour[background] = 255
    return np.rint(np.dstack([colour, alpha * 255])).clip(0, 255).astype(np.uint8)


def _connected_to_border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of a mask that can be reached from the border by 4-neighbours within the mask."""
    reached = np.zeros_like(mask)
    for border in (np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]):
        reached[border] = mask[border]
    while True:
        before = int(reached.sum())
        for turn in range(4):  # sweep along rows and columns, in both directions
            reached = np.rot90(_sweep(np.rot90(reached, turn), np.rot90(mask, turn)), -turn)
        if int(reached.sum()) == before:
            return reached


def _sweep(reached: NDArray[np.bool_], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Carry `reached` to the right along each row until the mask ends."""
    column = np.arange(mask.shape[1])
    last_reached = np.maximum.accumulate(np.where(reached, column, -1), axis=1)
    last_wall = np.maximum.accumulate(np.where(mask, -1, column), axis=1)
    swept: NDArray[np.bool_] = mask & (last_reached > last_wall)
    return swept


def _fold(combine: np.ufunc, values: NDArray[Any]) -> NDArray[Any]:
    """The 3x3 neighbourhood of every pixel, combined: [H, W, ...] -> [H, W, ...], zeros beyond the border."""
    height, width = values.shape[:2]
    padded = np.pad(values, [(1, 1), (1, 1)] + [(0, 0)] * (values.ndim - 2))
    folded = np.zeros_like(values)  # all nine at once would take 200 MB at 1024²
    for y in range(3):
        for x in range(3):
            combine(folded, padded[y : y + height, x : x + width], out=folded)
    return folded


def _grow(mask: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """A mask grown by some pixels in all eight directions."""
    for _ in range(pixels):
        mask = _fold(np.logical_or, mask)
    return mask


def _nearest_colours(
    colours: NDArray[np.float32], known: NDArray[np.bool_], wanted: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """For each wanted pixel the mean of its nearest known ones, ring by ring; zero where there are none."""
    found = np.where(known[..., None], colours, np.float32(0))
    known = known.copy()
    while True:
        count = _fold(np.add, known.astype(np.uint8))
        ring = wanted & ~known & (count > 0)
        if not ring.any():
            return found
        found[ring] = _fold(np.add, found)[ring] / count[ring][:, None]
        known |= ring
