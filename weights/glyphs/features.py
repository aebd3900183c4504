"""Puts a feature (sunglasses, a crown, heart eyes, …) on a face or an animal, by pasting glyphs.

The places of eyes and crown of the head were read off the glyphs by hand. Knows nothing of prompts or of
training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from weights.glyphs.dataset import SIZE, load_glyphs, load_pictures

HEAD_ROOM = 0.8  # a host under a hat shrinks to this, so that both fit the square


@dataclass(frozen=True, slots=True)
class Head:
    """Where the eyes and the top of a head are, in pixels of a 128x128 glyph."""

    left: float
    right: float
    eyes: float
    top: float

    def scaled(self, factor: float) -> Head:
        """The same head when the glyph is shrunk towards the middle of its lower edge."""
        shift = SIZE / 2 * (1 - factor)
        drop = SIZE * (1 - factor)
        return Head(
            self.left * factor + shift,
            self.right * factor + shift,
            self.eyes * factor + drop,
            self.top * factor + drop,
        )


HEADS: dict[str, dict[str, Head]] = {
    "slightly smiling face": {"notoemoji": Head(45, 81, 51, 10), "openmoji": Head(46, 81, 54, 18)},
    "grinning face": {"notoemoji": Head(45, 81, 51, 10), "openmoji": Head(46, 81, 54, 18)},
    "neutral face": {"notoemoji": Head(45, 82, 55, 10), "openmoji": Head(46, 81, 54, 18)},
    "angry face": {"notoemoji": Head(49, 80, 70, 10), "openmoji": Head(46, 81, 57, 18)},
    "monkey face": {"notoemoji": Head(50, 77, 60, 20), "openmoji": Head(48, 78, 51, 11)},
    "dog face": {"notoemoji": Head(47, 83, 67, 23), "openmoji": Head(48, 83, 50, 16)},
    "wolf": {"notoemoji": Head(46, 83, 60, 17), "openmoji": Head(46, 80, 72, 11)},
    "fox": {"notoemoji": Head(49, 79, 71, 35), "openmoji": Head(43, 84, 72, 26)},
    "cat face": {"notoemoji": Head(40, 87, 66, 28), "openmoji": Head(46, 81, 68, 28)},
    "lion": {"notoemoji": Head(50, 78, 50, 9), "openmoji": Head(50, 78, 55, 9)},
    "tiger face": {"notoemoji": Head(42, 87, 43, 11), "openmoji": Head(49, 81, 64, 21)},
    "cow face": {"notoemoji": Head(50, 83, 58, 26), "openmoji": Head(40, 87, 50, 7)},
    "pig face": {"notoemoji": Head(38, 88, 69, 21), "openmoji": Head(44, 83, 64, 33)},
    "mouse face": {"notoemoji": Head(47, 81, 75, 43), "openmoji": Head(46, 86, 69, 24)},
    "rabbit face": {"notoemoji": Head(49, 79, 75, 54), "openmoji": Head(46, 81, 72, 45)},
    "bear": {"notoemoji": Head(43, 85, 60, 14), "openmoji": Head(50, 78, 66, 25)},
    "panda": {"notoemoji": Head(42, 85, 66, 19), "openmoji": Head(50, 78, 70, 22)},
    "frog": {"notoemoji": Head(36, 93, 43, 24), "openmoji": Head(38, 91, 40, 24)},
    "teddy bear": {"notoemoji": Head(53, 80, 34, 10), "openmoji": Head(56, 73, 36, 10)},
    "robot": {"notoemoji": Head(44, 83, 66, 38), "openmoji": Head(47, 81, 50, 25)},
    "alien": {"notoemoji": Head(38, 90, 64, 5), "openmoji": Head(45, 82, 72, 13)},
    "ghost": {"notoemoji": Head(46, 75, 36, 5), "openmoji": Head(56, 73, 38, 16)},
    "skull": {"notoemoji": Head(41, 86, 64, 7), "openmoji": Head(48, 80, 73, 18)},
    "pile of poo": {"notoemoji": Head(48, 79, 69, 10), "openmoji": Head(48, 80, 69, 19)},
    "jack-o-lantern": {"notoemoji": Head(40, 85, 68, 27), "openmoji": Head(42, 85, 61, 28)},
    "hatching chick": {"notoemoji": Head(53, 86, 36, 14), "openmoji": Head(54, 72, 45, 24)},
    "sun with face": {"notoemoji": Head(48, 80, 55, 22), "openmoji": Head(48, 80, 59, 20)},
}

# feature → (glyph that is pasted, where)
FEATURES: dict[str, tuple[str, str]] = {
    "sunglasses": ("sunglasses", "across eyes"),
    "glasses": ("glasses", "across eyes"),
    "heart eyes": ("red heart", "each eye"),
    "star eyes": ("star", "each eye"),
    "tear": ("droplet", "under eye"),
    "crown": ("crown", "on head"),
    "top hat": ("top hat", "on head"),
    "graduation cap": ("graduation cap", "on head"),
    "bow": ("ribbon", "on head"),
}

# These are emoji of their own (😎, 😍, 🤩, 🤓, 😢, 😻, 😿): the real glyph serves the prompt.
OWN_GLYPH = {
    ("slightly smiling face", feature)
    for feature in ("sunglasses", "glasses", "heart eyes", "star eyes", "tear")
} | {("grinning face", "star eyes"), ("cat face", "heart eyes"), ("cat face", "tear")}


def cut_out(rgba: npt.NDArray[np.uint8]) -> Image.Image:
    """The glyph cropped to what is not transparent."""
    image = Image.fromarray(rgba)
    return image.crop(image.getchannel("A").point(lambda a: 255 * (a > 16)).getbbox())


def add_feature(look: str, host: str, feature: str) -> npt.NDArray[np.uint8]:
    """`host` with `feature` in `look`: uint8 RGBA [128, 128, 4]."""
    names = [glyph.name for glyph in load_glyphs()]
    pictures = load_pictures(look)
    glyph, place = FEATURES[feature]
    part = cut_out(pictures[names.index(glyph)])
    head = HEADS[host][look]
    body = Image.fromarray(pictures[names.index(host)])
    if place == "on head":
        small = body.resize((round(SIZE * HEAD_ROOM),) * 2, Image.Resampling.LANCZOS)
        body = Image.new("RGBA", (SIZE, SIZE), (255, 255, 255, 0))
        body.paste(small, (round(SIZE * (1 - HEAD_ROOM) / 2), SIZE - small.height))
        head = head.scaled(HEAD_ROOM)
    middle, apart = (head.left + head.right) / 2, head.right - head.left

    def paste(x: float, y: float, width: float) -> None:
        """Paste `part` with its centre at (x, y), `width` pixels wide."""
        nonlocal body
        sized = part.resize(
            (round(width), max(1, round(width * part.height / part.width))), Image.Resampling.LANCZOS
        )
        layer = Image.new("RGBA", body.size, (255, 255, 255, 0))
        layer.paste(sized, (round(x - sized.width / 2), round(y - sized.height / 2)))
        body = Image.alpha_composite(body, layer)

    if place == "across eyes":
        paste(middle, head.eyes, 2.15 * max(apart, 30))
    elif place == "each eye":
        for x in (head.left, head.right):
            paste(x, head.eyes, 0.74 * min(max(apart, 30), 44))
    elif place == "under eye":
        paste(head.left - 2, head.eyes + 22, 16 if look == "notoemoji" else 15)
    else:
        width = {"bow": 42, "graduation cap": 66}.get(feature, 52)
        height = width * part.height / part.width
        sink = {"bow": 0.45, "graduation cap": 0.3}.get(feature, 0.16)  # how far it comes down over the head
        paste(middle, max(head.top + height * (sink - 0.5), height / 2), width)
    return np.asarray(body)
