"""Operations against plain NumPy and Pillow, and what random erasing may touch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.preprocess.rand_augment import (
    OPERATIONS,
    change_colours,
    rand_augment,
    random_erasing,
    shape_matrix,
    transform,
)

FILL = (124.0, 116.0, 104.0)


def photographs(count=4, height=14, width=10):
    return np.random.default_rng(0).integers(20, 236, (count, height, width, 3)).astype(np.uint8)


@jax.jit
def apply(images, operation, strength):
    operations, strengths = (jnp.broadcast_to(x, len(images)) for x in (operation, strength))
    colours = change_colours(images.astype(jnp.float32), operations, strengths)
    return transform(colours, shape_matrix(operations, strengths, images.shape[1:3]))


def changed(name, strength, images):
    return np.asarray(apply(images, OPERATIONS.index(name), strength))


randomly = jax.jit(rand_augment, static_argnums=2)
erasing = jax.jit(random_erasing, static_argnums=2)


@pytest.mark.parametrize("strength", [-0.7, 0.5])
@pytest.mark.parametrize(
    ("name", "enhance"),
    [
        ("brightness", ImageEnhance.Brightness),
        ("contrast", ImageEnhance.Contrast),
        ("saturation", ImageEnhance.Color),
        ("sharpness", ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_pillow_s_within_rounding(name, enhance, strength):
    images = photographs()
    for found, image in zip(changed(name, strength, images), images, strict=True):
        expected = np.asarray(enhance(Image.fromarray(image)).enhance(1 + 0.9 * strength), float)
        np.testing.assert_allclose(found, expected, atol=2.1)


def test_solarize_posterize_and_autocontrast_are_what_they_say():
    images = photographs()
    for found, image in zip(changed("solarize", 0.5, images), images, strict=True):
        expected = np.asarray(ImageOps.solarize(Image.fromarray(image), 128))
        np.testing.assert_array_equal(found, expected)
    for found, image in zip(changed("posterize", -0.5, images), images, strict=True):
        expected = np.asarray(ImageOps.posterize(Image.fromarray(image), 6))
        np.testing.assert_array_equal(found, expected)
    for found, image in zip(changed("autocontrast", 1.0, images), images, strict=True):
        low, high = image.min(axis=(0, 1)).astype(float), image.max(axis=(0, 1))
        np.testing.assert_allclose(found, (image - low) * 255 / (high - low), atol=1e-3)
    flat = np.full((1, 4, 4, 3), 77, np.uint8)
    np.testing.assert_array_equal(changed("autocontrast", 1.0, flat), flat)


def test_a_translation_moves_pixels_and_fills_what_is_left_with_grey():
    images = photographs(height=20, width=20)
    right = changed("translate_x", 1 / 3, images)  # 0.45 * 20 / 3 is 3 pixels
    np.testing.assert_allclose(right[:, :, :17], images[:, :, 3:], atol=1e-2)
    np.testing.assert_allclose(right[:, :, 17:], np.broadcast_to(FILL, (4, 20, 3, 3)), atol=1e-2)
    down = changed("translate_y", -1 / 3, images)
    np.testing.assert_allclose(down[:, 3:], images[:, :17], atol=1e-2)


def test_a_quarter_turn_is_exact():
    images = photographs(height=9, width=9)
    matrix = jnp.asarray([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    found = transform(jnp.asarray(images, jnp.float32), jnp.broadcast_to(matrix, (4, 3, 3)))
    np.testing.assert_array_equal(found, np.rot90(images, -1, axes=(1, 2)))


def test_shears_agree_with_pillow_inside_the_image():
    gradient = np.arange(31, dtype=np.uint8) * 4
    image = np.repeat(np.add.outer(gradient, gradient // 2)[..., None], 3, axis=-1)[None]
    found = changed("shear_x", 0.5, image)[0, 8:-8, 8:-8]
    # x' = x + 0.15 (y - 15): Pillow counts from the corner of the first pixel.
    matrix = (1, 0.15, -0.15 * 15.5, 0, 1, 0)
    sheared = Image.fromarray(image[0]).transform(
        (31, 31), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )
    np.testing.assert_allclose(found, np.asarray(sheared, float)[8:-8, 8:-8], atol=1.1)


def test_an_image_without_an_operation_stays_the_same():
    images = photographs()
    np.testing.assert_array_equal(apply(images, -1, 1.0), images)


def test_about_a_quarter_of_images_stay_the_same_and_all_stay_in_range():
    images = photographs(300, 8, 8)
    found = np.asarray(randomly(images, jax.random.key(0), 9.0))
    assert found.min() >= 0 and found.max() <= 255
    same = (found == images).all(axis=(1, 2, 3)).mean()
    assert 0.17 < same < 0.33  # two draws, each applied with chance 1/2


def test_magnitude_0_is_off_and_larger_changes_more():
    images = photographs(300, 8, 8)
    distances = []
    for magnitude in (0.0, 2.0, 9.0):
        found = randomly(images, jax.random.key(1), magnitude)
        distances.append(float(np.abs(np.asarray(found) - images).mean()))
    assert distances[0] == 0 < distances[1] < distances[2]
    with pytest.raises(ValueError, match="augment_magnitude=11"):
        rand_augment(jnp.asarray(images), jax.random.key(1), 11)


def test_erasing_covers_one_rectangle_in_a_share_of_the_images():
    images = jnp.full((300, 20, 30, 3), 9.0)
    found = np.asarray(erasing(images, jax.random.key(0), 0.25))
    erased = (found != 9).all(axis=-1)
    hit = erased.any(axis=(1, 2))
    assert 0.17 < hit.mean() < 0.33
    for mask in erased[hit]:
        rows, columns = np.nonzero(mask)
        assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == mask.sum()
        assert 0.01 < mask.mean() < 0.37
    noise = found[erased]
    np.testing.assert_allclose([noise.mean(), noise.var()], [0, 1], atol=0.05)
    # Somewhere an edge is reached on every side, and no rectangle leaves the image.
    assert erased[:, 0].any() and erased[:, -1].any()
    assert erased[:, :, 0].any() and erased[:, :, -1].any()


def test_erasing_is_off_or_everywhere():
    images = jnp.full((50, 8, 8, 3), 9.0)
    assert random_erasing(images, jax.random.key(0), 0.0) is images
    found = np.asarray(erasing(images, jax.random.key(0), 1.0))
    assert (found != 9).any(axis=(1, 2, 3)).all()


def test_augmentation_is_the_same_on_any_number_of_devices():
    images = jnp.asarray(photographs(16, 8, 8))

    def augment(images, key):
        return random_erasing(rand_augment(images, key, 9.0), key, 0.5)

    found = []
    for count in (1, 8):
        mesh = sharding.make_mesh(count)
        whole, split = sharding.replicated(mesh), sharding.batch_sharded(mesh)
        run = jax.jit(augment, in_shardings=(split, whole))
        found.append(np.asarray(run(images, jax.random.key(3))))
    np.testing.assert_allclose(*found, atol=1e-3)
    other = np.asarray(run(images, jax.random.key(4)))
    assert (np.abs(other - found[0]) > 1).any()
