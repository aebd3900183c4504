"""Pictures: sizes, formats, text in the PNG, and the background that becomes transparent."""

import io
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from transformer.pictures import MEDIA_TYPES, Finish, Provenance, finish, remove_background, resize

SIDE = 64
PROVENANCE = Provenance(prompt="빨간 사과", model="notoemoji@1", seed=7)

pixels = arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3)))
colours = st.tuples(*[st.integers(0, 255)] * 3).filter(lambda colour: min(colour) <= 120)


def open_picture(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file))


def over(rgba: NDArray[np.uint8], ground: int) -> NDArray[np.float64]:
    """Lay a transparent picture on a grey ground."""
    alpha = rgba[..., 3:] / 255.0
    blended: NDArray[np.float64] = rgba[..., :3] * alpha + ground * (1 - alpha)
    return blended


def coverage(draw_shape: str, box: tuple[float, float, float, float]) -> NDArray[np.float64]:
    """An anti-aliased shape: how much of each pixel it covers, 0 to 1."""
    fine = Image.new("L", (SIDE * 8, SIDE * 8))
    getattr(ImageDraw.Draw(fine), draw_shape)([side * 8 for side in box], fill=255)
    return np.asarray(fine.resize((SIDE, SIDE), Image.Resampling.BOX)) / 255.0


def on_white(alpha: NDArray[np.float64], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    blended = alpha[..., None] * np.array(colour) + (1 - alpha[..., None]) * 255
    return np.rint(blended).astype(np.uint8)


@settings(deadline=None)
@given(pixels)
def test_a_png_holds_exactly_the_pixels_that_were_drawn(drawn: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(open_picture(finish(drawn, Finish(), PROVENANCE)), drawn)


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_every_format_is_what_its_name_says(name: str) -> None:
    drawn = on_white(coverage("ellipse", (10, 10, 50, 50)), (200, 30, 30))
    picture = open_picture(finish(drawn, Finish(format=name, quality=95), PROVENANCE))
    assert picture.get_format_mimetype() == MEDIA_TYPES[name]
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - drawn).mean() < 4


def test_webp_of_full_quality_loses_nothing() -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    np.testing.assert_array_equal(
        open_picture(finish(drawn, Finish(format="webp", quality=100), PROVENANCE)), drawn
    )


def test_less_quality_means_fewer_bytes() -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    sizes = [len(finish(drawn, Finish(format="jpeg", quality=quality), PROVENANCE)) for quality in (20, 90)]
    assert sizes[0] < sizes[1]


@settings(deadline=None)
@given(pixels, st.integers(1, 100))
def test_a_wanted_size_is_the_longer_side_and_keeps_the_proportions(
    drawn: NDArray[np.uint8], size: int
) -> None:
    picture = open_picture(finish(drawn, Finish(size=size), PROVENANCE))
    assert max(picture.size) == size
    height, width, _ = drawn.shape
    assert abs(picture.width * height - picture.height * width) <= max(height, width)


def test_upscaling_a_transparent_picture_leaves_no_fringe() -> None:
    drawn = np.zeros((8, 8, 4), np.uint8)
    drawn[2:6, 2:6] = (200, 0, 0, 255)  # the transparent pixels are black, the object is red
    large = np.asarray(resize(Image.fromarray(drawn), 64))
    seen = large[large[..., 3] > 128]
    assert seen[:, 0].min() >= 190


def test_metadata_is_written_on_request_only_and_holds_korean() -> None:
    drawn = np.zeros((4, 4, 3), np.uint8)
    extra = Provenance("a red apple", "openmoji@2", 2**53, {"source": "빨간 사과"})
    with_text = open_picture(finish(drawn, Finish(metadata=True), extra))
    with_text.load()
    assert with_text.info == {
        "prompt": "a red apple",
        "model": "openmoji@2",
        "seed": "9007199254740992",
        "source": "빨간 사과",
    }
    assert open_picture(finish(drawn, Finish(), extra)).info == {}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["ellipse", "rectangle"]),
    st.floats(6, 20),
    st.floats(6, 20),
    st.floats(14, 36),
    colours,
)
def test_an_antialiased_object_is_cut_out_without_a_white_halo(
    shape: str, left: float, top: float, side: float, colour: tuple[int, int, int]
) -> None:
    alpha = coverage(shape, (left, top, left + side, top + side))
    cut = remove_background(on_white(alpha, colour))
    truth_on_black = alpha[..., None] * np.array(colour)
    # What lies within the near-white tolerance is cut off with the background: at most that much is missing.
    assert np.abs(over(cut, 0) - truth_on_black).max() <= 256 * 24 / (255 - min(colour)) + 2
    visible = cut[..., 3] > 0
    assert np.abs(cut[visible][:, :3].astype(int) - colour).max() <= 24


@settings(max_examples=60, deadline=None)
@given(arrays(np.uint8, (12, 12, 3), elements=st.sampled_from([0, 90, 200, 228, 235, 250, 255])))
def test_over_white_the_cut_out_is_the_picture_it_came_from(drawn: NDArray[np.uint8]) -> None:
    cut = remove_background(drawn)
    kept = cut[..., 3] > 0
    assert np.abs(over(cut, 255) - drawn)[kept].max(initial=0) <= 1.5
    assert (drawn[~kept].min(axis=-1, initial=255) >= 231).all()


@settings(deadline=None)
@given(arrays(np.uint8, (9, 9, 3), elements=st.integers(0, 230)))
def test_a_picture_without_white_borders_stays_whole(drawn: NDArray[np.uint8]) -> None:
    cut = remove_background(drawn)
    np.testing.assert_array_equal(cut[..., :3], drawn)
    assert (cut[..., 3] == 255).all()


def test_white_inside_the_object_stays() -> None:
    ring = coverage("ellipse", (8, 8, 56, 56)) - coverage("ellipse", (20, 20, 44, 44))
    cut = remove_background(on_white(ring, (20, 20, 20)))
    assert tuple(cut[32, 32]) == (255, 255, 255, 255)
    assert cut[2, 2, 3] == 0


def test_a_background_reached_only_round_corners_is_removed() -> None:
    spiral = np.full((9, 9, 3), 255, np.uint8)
    for row, columns in ((1, np.s_[1:]), (3, np.s_[:8]), (5, np.s_[1:]), (7, np.s_[:8])):
        spiral[row, columns] = 0
    spiral[:, [0, 8]] = 0
    spiral[0, 4] = 255
    spiral[2, 0] = spiral[4, 8] = 0
    walls = spiral[..., 0] == 0
    cut = remove_background(spiral)
    assert (cut[walls][:, 3] == 255).all()
    assert cut[0, 4, 3] == 0


def test_a_thin_line_is_blended_too() -> None:
    line = coverage("rectangle", (10, 30.5, 54, 32.2))  # two and a bit pixels high, soft above and below
    cut = remove_background(on_white(line, (0, 0, 160)))
    visible = cut[..., 3] > 0
    assert np.abs(cut[visible][:, :3].astype(int) - (0, 0, 160)).max() <= 24


def test_a_picture_that_is_all_background_becomes_empty() -> None:
    assert remove_background(np.full((5, 7, 3), 255, np.uint8))[..., 3].max() == 0


def test_a_background_takes_no_more_memory_than_a_few_copies_of_the_picture() -> None:
    """Several at once, of 1024², have to fit a pod's limit."""
    drawn = on_white(coverage("ellipse", (10, 10, 50, 50)), (200, 30, 30)).repeat(4, 0).repeat(4, 1)
    tracemalloc.start()
    try:
        remove_background(drawn)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * drawn.size * np.dtype(np.float32).itemsize
