"""A crop of a resized image, to the last grey level as Pillow makes it."""

import subprocess
import sys
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from PIL import Image

from input_pipeline.images.pil_filter import bilinear_taps
from input_pipeline.images.resample import Crop, resample, resample_few
from tests.input_pipeline.images.photographs import photograph


def pillows(image: np.ndarray, crop: Crop) -> np.ndarray:
    resized = Image.fromarray(image).resize((crop.width, crop.height), Image.Resampling.BILINEAR)
    right, bottom = crop.left + crop.size, crop.top + crop.size
    pixels = np.asarray(resized.crop((crop.left, crop.top, right, bottom)))
    return pixels[:, ::-1] if crop.flip else pixels


def exact(image: np.ndarray, crop: Crop) -> np.ndarray:
    out = np.empty((crop.size, crop.size, 3), np.uint8)
    resample(image, crop, out)
    return out


@st.composite
def images_and_crops(draw) -> tuple[np.ndarray, Crop]:
    height, width = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    new_width, new_height = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    size = draw(st.integers(1, min(new_width, new_height)))
    left = draw(st.integers(0, new_width - size))
    top = draw(st.integers(0, new_height - size))
    seed = draw(st.integers(0, 2**32 - 1))
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, Crop(new_width, new_height, left, top, size, draw(st.booleans()))


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(images_and_crops())
def test_any_crop_of_any_image_has_the_bytes_of_pillow(image_and_crop):
    image, crop = image_and_crop
    wanted = pillows(image, crop)
    np.testing.assert_array_equal(exact(image, crop), wanted)
    out = np.empty_like(wanted)
    resample_few(image, crop, out)
    np.testing.assert_array_equal(out, wanted)


def test_a_few_images_need_nothing_compiled_but_where_they_would_not_fit():
    code = (
        "import sys, numpy as np; from input_pipeline.images.resample import Crop, resample_few\n"
        "out = np.empty((8, 8, 3), np.uint8)\n"
        "resample_few(np.zeros((90, 60, 3), np.uint8), Crop(10, 15, 1, 3, 8), out)\n"
        "assert 'numba' not in sys.modules\n"
        "resample_few(np.zeros((9000, 1, 3), np.uint8), Crop(10, 90_000_000, 1, 3, 8), out)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((500, 375), (341, 256)),  # three pixels a tap, as most photographs
        ((640, 480), (341, 256)),  # four
        ((375, 500), (256, 341)),
        ((341, 256), (341, 256)),  # packed: nothing to resize
        ((341, 300), (341, 256)),  # only one axis
        ((1600, 1200), (341, 256)),  # many
        ((60, 1500), (256, 6400)),  # enlarged
        ((300, 2000), (300, 256)),  # Pillow 13 starts with the height
    ],
)
@pytest.mark.parametrize("flip", [False, True])
def test_photographs_have_the_bytes_of_pillow(size, resized, flip):
    image = np.asarray(photograph(*size, seed=1))
    spare = (resized[0] - 224, resized[1] - 224)
    for left, top in ((0, 0), spare, (spare[0] // 3, spare[1] // 2)):
        crop = Crop(resized[0], resized[1], left, top, 224, flip)
        np.testing.assert_array_equal(exact(image, crop), pillows(image, crop))


def pixels_read(first: np.ndarray, weight: np.ndarray) -> list[dict[int, int]]:
    """For each output pixel, the weights by input pixel."""
    return [
        {int(first[i]) + k: int(w) for k, w in enumerate(weight[:, i]) if w}
        for i in range(len(first))
    ]


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(st.integers(1, 5000), st.integers(1, 300), st.data())
def test_the_weights_of_a_part_are_a_part_of_the_weights(length_in, length_out, data):
    start = data.draw(st.integers(0, length_out - 1))
    size = data.draw(st.integers(1, length_out - start))
    part = bilinear_taps(length_in, length_out, start, size)
    whole = bilinear_taps(length_in, length_out)
    assert part[0].shape == (size,)
    assert pixels_read(*part) == pixels_read(*whole)[start : start + size]


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(images_and_crops())
def test_any_crop_is_a_part_of_the_whole_resized_image(image_and_crop):
    image, crop = image_and_crop
    side = min(crop.width, crop.height)
    spare_x, spare_y = crop.width - side, crop.height - side
    left, top = min(crop.left, spare_x), min(crop.top, spare_y)
    larger = exact(image, Crop(crop.width, crop.height, left, top, side))
    y, x = crop.top - top, crop.left - left
    hypothesis.assume(max(x, y) + crop.size <= side)
    part = larger[y : y + crop.size, x : x + crop.size]
    np.testing.assert_array_equal(exact(image, crop), part[:, ::-1] if crop.flip else part)


def test_a_crop_of_a_very_long_image_needs_no_more_than_the_crop():
    middle = 51_000_000
    first, weight = bilinear_taps(400_000, 102_400_000, middle, 224)
    assert first.shape == (224,) and weight.shape == (2, 224)
    image = np.arange(400_000 * 3, dtype=np.uint8).reshape(400_000, 1, 3)
    tracemalloc.start()
    cropped = exact(image, Crop(256, 102_400_000, 16, middle, 224))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20  # bytes; the crop has 150,528
    # 256 times enlarged: rows half-way into a pixel are that pixel.
    row = middle + 128
    assert row % 256 == 64  # a quarter into pixel `row // 256`: three quarters of it
    near, before = image[row // 256, 0].astype(int), image[row // 256 - 1, 0].astype(int)
    share = 0.5 + (64.5 / 256)
    np.testing.assert_allclose(cropped[128, 0], near * share + before * (1 - share), atol=1)
