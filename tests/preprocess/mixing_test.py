"""Mixtures are convex, their targets fit their pixels, and padding takes no part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.distributed import mesh as sharding
from hybridhash_jax.preprocess.mixing import Mixing, mix

COUNT, HEIGHT, WIDTH = 64, 12, 20
BOTH = Mixing(0.8, 1.0, 1.0)


mixed_by = jax.jit(mix, static_argnums=4)


def batch():
    """Image i is i everywhere and has class i, so that a mixture tells what it is made of."""
    values = jnp.arange(COUNT, dtype=jnp.float32)
    images = jnp.broadcast_to(values[:, None, None, None], (COUNT, HEIGHT, WIDTH, 3))
    return images, jnp.eye(COUNT), jnp.ones(COUNT, bool)


@pytest.mark.parametrize("mixing", [Mixing(0.8, 0.0), Mixing(0.0, 1.0), BOTH])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_targets_are_those_of_the_pixels(mixing, seed):
    images, targets, mask = batch()
    mixed, found = mixed_by(images, targets, mask, jax.random.key(seed), mixing)
    assert mixed.shape == images.shape and found.shape == targets.shape
    np.testing.assert_allclose(found.sum(axis=1), np.ones(COUNT), rtol=1e-5)
    assert (np.asarray(found) >= 0).all()
    # Every pixel's value is its source's class, so the mean pixel is the mean class.
    classes = np.asarray(found) @ np.arange(COUNT)
    np.testing.assert_allclose(
        np.asarray(mixed).mean(axis=(1, 2, 3)), classes, rtol=1e-4, atol=1e-3
    )


def test_cutmix_pastes_one_box_of_one_other_image():
    images, targets, mask = batch()
    mixed, found = mixed_by(images, targets, mask, jax.random.key(3), Mixing(0.0, 1.0))
    pasted = 0
    for i, (image, target) in enumerate(
        zip(np.asarray(mixed)[..., 0], np.asarray(found), strict=True)
    ):
        assert set(np.unique(image)) <= {float(i), *np.flatnonzero(target).astype(float)}
        rows, columns = np.nonzero(image != i)
        if len(rows):
            pasted += 1
            box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
            assert box == len(rows)  # a full rectangle
            np.testing.assert_allclose(target[i], 1 - box / image.size, rtol=1e-5)
    assert pasted > COUNT / 2


def test_mixup_is_the_same_everywhere_in_an_image():
    images, targets, mask = batch()
    mixed, _ = mixed_by(images, targets, mask, jax.random.key(3), Mixing(0.8, 0.0))
    values = np.asarray(mixed).reshape(COUNT, -1)
    np.testing.assert_array_equal(values, np.broadcast_to(values[:, :1], values.shape))
    assert (values[:, 0] != np.arange(COUNT)).mean() > 0.8


def test_shares_follow_their_beta_distribution():
    images, targets, mask = batch()
    shares = []
    for seed in range(40):
        _, found = mixed_by(images, targets, mask, jax.random.key(seed), Mixing(0.5, 0.0))
        shares.append(np.diagonal(np.asarray(found)))
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)); own partners (1 in 64) aside.
    np.testing.assert_allclose(np.mean(shares), 0.5, atol=0.04)
    np.testing.assert_allclose(np.var(shares), 1 / 8, atol=0.015)


@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_some_images_are_left_alone(probability):
    images, targets, mask = batch()
    left = 0.0
    for seed in range(10):
        mixed, found = mixed_by(
            images, targets, mask, jax.random.key(seed), Mixing(0.8, 0.0, probability)
        )
        alone = np.asarray(found)[np.arange(COUNT), np.arange(COUNT)] == 1
        np.testing.assert_allclose(np.asarray(mixed)[alone], np.asarray(images)[alone], rtol=1e-6)
        left += alone.mean() / 10
    assert abs(left - (1 - probability)) < 0.08


def test_padding_is_mixed_into_nothing():
    images, targets, mask = batch()
    mask = mask.at[40:].set(False)
    targets = jnp.where(mask[:, None], targets, 0.0)
    mixed, found = mixed_by(images, targets, mask, jax.random.key(0), BOTH)
    np.testing.assert_allclose(np.asarray(found)[:40].sum(axis=1), np.ones(40), rtol=1e-5)
    assert np.asarray(mixed)[:40].max() < 40


def test_a_batch_is_mixed_the_same_way_on_any_number_of_devices():
    found = []
    for count in (1, 8):
        mesh = sharding.make_mesh(count)
        whole, split = sharding.replicated(mesh), sharding.batch_sharded(mesh)
        run = jax.jit(
            lambda images, targets, mask, key: mix(images, targets, mask, key, BOTH),
            in_shardings=(split, split, split, whole),
        )
        found.append(run(*batch(), jax.random.key(5)))
    for one, eight in zip(*found, strict=True):
        np.testing.assert_allclose(one, eight, atol=1e-3)


def test_nothing_to_mix_changes_nothing():
    images, targets, mask = batch()
    mixed, found = mix(images, targets, mask, jax.random.key(0), Mixing())
    assert mixed is images and found is targets
