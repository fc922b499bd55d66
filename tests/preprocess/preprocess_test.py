"""Preprocessing on the device: PIL's bytes, pure augmentation, the usual normalisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from PIL import Image

from hybridhash_jax.preprocess import pixels as preprocess
from hybridhash_jax.preprocess.augmentation import make_augment, prepare_images


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def pil_resize(images: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = [
        Image.fromarray(i).resize((width, height), Image.Resampling.BILINEAR) for i in images
    ]
    return np.stack([np.asarray(image) for image in resized])


def jitted_resize(images: np.ndarray, size) -> np.ndarray:
    return np.asarray(jax.jit(preprocess.resize, static_argnums=1)(jnp.asarray(images), size))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((32, 32), (224, 224)),
        ((8, 8), (16, 16)),
        ((8, 8), (32, 32)),
        ((224, 224), (224, 224)),
        ((300, 200), (256, 171)),
        ((200, 300), (171, 256)),
        ((256, 256), (224, 224)),
        ((500, 375), (37, 41)),
        ((7, 13), (13, 7)),
        ((13, 7), (29, 3)),
        ((31, 17), (31, 40)),
        ((60, 40), (30, 25)),  # 30 rows and 15 columns fewer: Pillow starts with the width
        ((60, 40), (29, 25)),  # one row more: Pillow starts with the height
        ((40, 20), (39, 31)),
        ((20, 40), (25, 10)),
        ((31, 17), (5, 17)),
        ((1, 1), (5, 3)),
        ((9, 6), (1, 1)),
    ],
)
def test_resize_gives_the_bytes_of_pil(before, after):
    images = random_images(3, *before, 3, seed=before[0])
    images[1] = images[1] // 128 * 255  # the strongest edges
    images[2] = 255
    got = jitted_resize(images, after)
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, pil_resize(images, *after))


@pytest.mark.parametrize("channels", [1, 3])
def test_mnist_s_size_gets_a_black_border_at_32_pixels_and_no_pixel_changes(channels):
    images = random_images(2, 28, 28, channels)
    found = np.asarray(preprocess.complete(jnp.asarray(images), 32))
    assert found.shape == (2, 32, 32, 3) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[:, 2:-2, 2:-2], np.broadcast_to(images, (2, 28, 28, 3)))
    assert int(found.sum(dtype=np.int64)) == int(found[:, 2:-2, 2:-2].sum(dtype=np.int64))


@pytest.mark.parametrize(("shape", "size"), [((2, 28, 28, 1), 64), ((2, 8, 9, 1), 32)])
def test_other_grey_images_only_become_rgb(shape, size):
    images = random_images(*shape)
    found = np.asarray(preprocess.complete(jnp.asarray(images), size))
    np.testing.assert_array_equal(found, images.repeat(3, axis=-1))


def test_training_and_evaluation_see_grey_images_alike():
    images = jnp.asarray(random_images(4, 28, 28, 1))
    seen = np.asarray(prepare_images(images, 32))
    keys = tuple(jax.random.split(jax.random.key(0), 3))
    np.testing.assert_array_equal(make_augment(32)(images, keys), seen)
    moved = np.asarray(make_augment(32, crop_padding=2)(images, keys))
    assert moved.shape == seen.shape and (moved != seen).any()
    # The border is there before the crop: moved by at most 2, an image is still whole.
    assert np.allclose(np.sort(moved, axis=None), np.sort(seen, axis=None))


@pytest.mark.parametrize("after", [(224, 224), (5, 11)])
def test_resize_keeps_constant_images(after):
    values = np.array([0, 1, 127, 254, 255], np.uint8).reshape(5, 1, 1, 1)
    got = jitted_resize(np.broadcast_to(values, (5, 32, 32, 3)), after)
    np.testing.assert_array_equal(got, np.broadcast_to(values, (5, *after, 3)))


def test_resize_to_one_number_makes_squares_of_any_channel_count():
    images = random_images(2, 8, 8, 1)
    got = jitted_resize(images, 16)
    assert got.shape == (2, 16, 16, 1)
    np.testing.assert_array_equal(got[..., 0], pil_resize(images[..., 0], 16, 16))


@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (np.zeros((8, 8, 3), np.uint8), 4, r"\[B, H, W, C\]; got shape \(8, 8, 3\)"),
        (np.zeros((1, 8, 8, 3), np.float32), 4, "needs uint8 images; got float32"),
        (np.zeros((1, 8, 8, 3), np.uint8), (0, 4), r"to \(0, 4\): every length"),
    ],
)
def test_resize_refuses_what_pil_would_not_resize(images, size, message):
    with pytest.raises(ValueError, match=message):
        preprocess.resize(jnp.asarray(images), size)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_normalize_subtracts_the_mean_and_divides_by_the_deviation(dtype):
    images = random_images(2, 4, 5, 3).astype(dtype)
    got = jax.jit(preprocess.normalize)(jnp.asarray(images))
    expected = (images / 255.0 - np.array(preprocess.MEAN)) / np.array(preprocess.STD)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_normalize_of_black_and_white_is_known():
    got = preprocess.normalize(jnp.asarray([[[[0, 0, 0], [255, 255, 255]]]], jnp.uint8))
    np.testing.assert_allclose(got[0, 0, 0], [-2.117904, -2.035714, -1.804444], atol=1e-6)
    np.testing.assert_allclose(got[0, 0, 1], [2.248908, 2.428571, 2.64], atol=1e-6)


def test_normalize_rounds_once_to_the_wanted_dtype():
    images = jnp.asarray(random_images(2, 4, 5, 3))
    got = preprocess.normalize(images, jnp.bfloat16)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, preprocess.normalize(images).astype(jnp.bfloat16))


@pytest.mark.parametrize("shape", [(2, 4, 5, 1), (2, 3, 4, 5)])
def test_normalize_refuses_images_that_are_not_rgb(shape):
    with pytest.raises(ValueError, match="needs RGB images"):
        preprocess.normalize(jnp.zeros(shape, jnp.uint8))


def places(image: np.ndarray, result: np.ndarray, padding: int) -> list[tuple[int, int, bool]]:
    """Lists every (top, left, flipped) that makes `result` of `image`."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    height, width, _ = image.shape
    return [
        (top, left, flipped)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
        for flipped in (False, True)
        if np.array_equal(
            padded[top : top + height, left : left + width][:, :: -1 if flipped else 1], result
        )
    ]


# Compiled once for all tests that share a shape.
jitted_augment = jax.jit(preprocess.augment, static_argnames=("horizontal_flip", "crop_padding"))


def augment(images, seed: int = 0, flip: bool = True, padding: int = 2) -> np.ndarray:
    key = jax.random.key(seed)
    return np.asarray(
        jitted_augment(jnp.asarray(images), key, horizontal_flip=flip, crop_padding=padding)
    )


@pytest.mark.parametrize(("flip", "padding"), [(True, 2), (False, 2), (True, 0)])
def test_each_augmented_image_is_a_crop_of_its_own_input(flip, padding):
    images = random_images(64, 6, 5, 3, seed=1)
    found = [
        places(image, result, padding)
        for image, result in zip(images, augment(images, 0, flip, padding), strict=True)
    ]
    assert all(len(matches) == 1 for matches in found)
    tops, lefts, flips = (set(values) for values in zip(*(m[0] for m in found), strict=True))
    assert tops == lefts == set(range(2 * padding + 1))
    assert flips == ({False, True} if flip else {False})


def test_flips_and_places_are_equally_likely():
    images = np.broadcast_to(random_images(1, 4, 4, 1), (2000, 4, 4, 1))
    found = np.array(
        [places(images[0], result, 1)[0] for result in augment(images, 5, padding=1)], int
    )
    np.testing.assert_allclose(found[:, 2].mean(), 0.5, atol=0.05)
    for axis in (0, 1):
        np.testing.assert_allclose(np.bincount(found[:, axis]) / 2000, [1 / 3] * 3, atol=0.05)


def test_augment_is_a_pure_function_of_images_and_key():
    images = random_images(16, 6, 5, 3)
    kept = images.copy()
    first = augment(images, 1)
    np.testing.assert_array_equal(first, augment(images, 1))
    np.testing.assert_array_equal(images, kept)
    assert (first != augment(images, 2)).any()


def test_augment_depends_on_the_position_and_not_on_the_batch_size():
    images = random_images(16, 6, 5, 3)
    np.testing.assert_array_equal(augment(images[:5]), augment(images)[:5])
    same = np.broadcast_to(images[:1], images.shape)
    assert len(np.unique(augment(same), axis=0)) > 5


def test_augment_and_resize_do_not_change_when_the_batch_is_sharded():
    images = random_images(16, 6, 5, 3)
    mesh = Mesh(np.array(jax.devices()), ("data",))
    sharded = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))

    @jax.jit
    def step(batch, key):
        batch = preprocess.augment(batch, key, horizontal_flip=True, crop_padding=2)
        return preprocess.normalize(preprocess.resize(batch, 9))

    key = jax.random.key(3)
    got = step(sharded, key)
    assert got.sharding.is_equivalent_to(sharded.sharding, 4)
    np.testing.assert_array_equal(got, step(jnp.asarray(images), key))


def test_augment_with_nothing_to_do_returns_its_input():
    images = jnp.asarray(random_images(2, 4, 4, 3))
    key = jax.random.key(0)
    assert preprocess.augment(images, key, horizontal_flip=False, crop_padding=0) is images


def test_augment_accepts_legacy_keys_and_keeps_the_dtype():
    images = random_images(3, 4, 4, 3)
    key = jax.random.PRNGKey(0)
    got = jitted_augment(jnp.asarray(images), key, horizontal_flip=True, crop_padding=1)
    assert got.dtype == jnp.uint8 and got.shape == images.shape


def test_a_negative_padding_is_refused():
    with pytest.raises(ValueError, match="crop_padding must be 0 or more; got -1"):
        augment(random_images(1, 4, 4, 3), padding=-1)


def test_crops_without_a_pixel_of_the_image_are_refused():
    with pytest.raises(ValueError, match="crop_padding=4 would leave crops with nothing"):
        augment(random_images(1, 4, 6, 3), padding=4)
    augment(random_images(1, 4, 6, 3), padding=3)
