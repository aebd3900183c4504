"""The glyph data set, recolouring and features: what the embedded model learns from is what it says it is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weights.eval.compositions import load_compositions
from weights.glyphs.dataset import LOOKS, SIZE, load_glyphs, load_pictures, on_white
from weights.glyphs.features import FEATURES, HEADS, OWN_GLYPH, add_feature
from weights.glyphs.names import EVERYDAY, PAINTABLE, nouns
from weights.glyphs.recolour import COLOURS, hue_saturation_value, main_colour_mask, recolour

NAMES = [glyph.name for glyph in load_glyphs()]


def test_covers_at_least_250_emoji_in_both_looks_without_flags_or_skin_tones():
    assert len(NAMES) >= 250
    assert len(set(NAMES)) == len(NAMES)
    assert len({glyph.char for glyph in load_glyphs()}) == len(NAMES)
    assert all(len(glyph.char) == 1 and glyph.group != "flags" for glyph in load_glyphs())
    for look in LOOKS:
        pictures = load_pictures(look)
        assert pictures.shape == (len(NAMES), SIZE, SIZE, 4)
        assert (pictures[..., 3].reshape(len(NAMES), -1).max(1) == 255).all()


def test_every_glyph_has_a_korean_name():
    assert [glyph.name for glyph in load_glyphs() if not glyph.name_ko] == []


def test_the_two_looks_differ_for_every_glyph():
    noto, openmoji = (on_white(load_pictures(look)).astype(int) for look in LOOKS)
    assert (np.abs(noto - openmoji).mean((1, 2, 3)) > 2).all()


def test_names_speak_of_glyphs_that_exist():
    assert set(EVERYDAY) <= set(NAMES)
    assert set(PAINTABLE) <= set(NAMES)
    assert set(HEADS) <= set(NAMES)
    assert {glyph for glyph, _ in FEATURES.values()} <= set(NAMES)
    assert nouns("automobile")[0] == "car"
    assert nouns("pizza") == ("pizza",)


def test_the_sixty_compositions_ask_for_things_that_can_be_drawn():
    compositions = load_compositions()
    assert len(compositions) == len({c.prompt for c in compositions}) == 60
    for composition in compositions:
        if composition.modifier in COLOURS:
            assert composition.glyph in PAINTABLE
        else:
            assert composition.modifier in FEATURES
            assert composition.glyph in HEADS
            assert (composition.glyph, composition.modifier) not in OWN_GLYPH


def test_on_white_composites_straight_alpha():
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [10, 20, 30, 128]]], np.uint8)
    white, black, half = on_white(rgba)[0]
    assert white.tolist() == [255, 255, 255]
    assert black.tolist() == [0, 0, 0]
    assert half.tolist() == [132, 137, 142]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_hsv_agrees_with_the_standard_library(red, green, blue):
    import colorsys

    rgb = np.array([[red, green, blue]], np.float32) / 255
    ours = [float(channel[0]) for channel in hue_saturation_value(rgb)]
    assert ours == pytest.approx(colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255), abs=1e-4)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ["red apple", "automobile", "cloud", "star"])
def test_recolouring_moves_the_main_colour_and_keeps_the_rest(look, name):
    picture = load_pictures(look)[NAMES.index(name)]
    mask = main_colour_mask(picture)
    blue = recolour(picture, "blue")
    assert (blue[..., 3] == picture[..., 3]).all()
    inside = blue[(mask > 0.9) & (picture[..., 3] > 200)][:, :3].astype(float).mean(0)
    assert inside[2] > inside[0] + 40  # blue beats red
    untouched = mask == 0
    assert (blue[untouched] == picture[untouched]).all()


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_changes_some_of_the_dog_and_leaves_some(look, feature):
    plain = on_white(load_pictures(look)[NAMES.index("dog face")]).astype(int)
    changed = on_white(add_feature(look, "dog face", feature)).astype(int)
    differs = (np.abs(plain - changed).max(-1) > 24).mean()
    assert 0.005 < differs < 0.6
