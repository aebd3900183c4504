"""The training pictures: every glyph, glyphs in other colours, and faces and animals with a feature.

Each stands in the same place in both looks. The compositions of the evaluation are left out, so that what it
asks for was never seen. Knows nothing of prompts' wording or of models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weights.eval.compositions import load_compositions
from weights.glyphs.dataset import LOOKS, load_glyphs, load_pictures, on_white
from weights.glyphs.features import FEATURES, HEADS, OWN_GLYPH, add_feature
from weights.glyphs.names import PAINTABLE
from weights.glyphs.recolour import COLOURS, recolour


@dataclass(frozen=True, slots=True)
class Subject:
    """What one picture shows: a glyph by its CLDR name, in a colour or with a feature, or plain."""

    glyph: str
    colour: str | None = None
    feature: str | None = None


def subjects() -> Iterator[Subject]:
    """All training subjects: plain glyphs first, then colours, then features."""
    held_out = {(c.glyph, c.modifier) for c in load_compositions()}
    for glyph in load_glyphs():
        yield Subject(glyph.name)
    for name in PAINTABLE:
        for colour in COLOURS:
            if (name, colour) not in held_out:
                yield Subject(name, colour=colour)
    for host in HEADS:
        for feature in FEATURES:
            if (host, feature) not in held_out and (host, feature) not in OWN_GLYPH:
                yield Subject(host, feature=feature)


def draw(subject: Subject, look: str) -> npt.NDArray[np.uint8]:
    """The subject in a look, uint8 RGB [128, 128, 3] on white."""
    if subject.feature is not None:
        return on_white(add_feature(look, subject.glyph, subject.feature))
    names = [glyph.name for glyph in load_glyphs()]
    picture = load_pictures(look)[names.index(subject.glyph)]
    return on_white(recolour(picture, subject.colour) if subject.colour else picture)


def draw_all(wanted: list[Subject]) -> npt.NDArray[np.uint8]:
    """Subjects in both looks: uint8 RGB [2, N, 128, 128, 3], looks in the order of LOOKS."""
    return np.stack([np.stack([draw(subject, look) for subject in wanted]) for look in LOOKS])
