"""Targets and loss against plain NumPy, and who counts as right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.classification import (
    Classification,
    is_among_top,
    mean_cross_entropy,
)


def one_hot(class_ids, classes):
    return np.eye(classes, dtype=np.uint8)[class_ids]


def smooth_labels(labels, smoothing):
    images, mask = jnp.zeros((len(labels), 1, 1, 3)), jnp.ones(len(labels), bool)
    return Classification(smoothing).mix(images, labels, mask, jax.random.key(0))[1]


def test_smoothed_labels_keep_their_sum_and_favour_the_class():
    found = smooth_labels(jnp.asarray(one_hot([2, 0], 4)), 0.2)
    expected = [[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    unchanged = smooth_labels(jnp.asarray(one_hot([1], 3)), 0.0)
    np.testing.assert_array_equal(unchanged, [[0, 1, 0]])


def test_the_loss_is_the_mean_over_images_that_are_kept():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 5)) * 3
    targets = rng.dirichlet(np.ones(5), size=6)
    mask = np.array([True, True, False, True, False, True])
    expected = []
    for row, target, kept in zip(logits, targets, mask, strict=True):
        if kept:
            log_sum = np.log(np.exp(row).sum())
            expected.append(sum(t * (log_sum - x) for t, x in zip(target, row, strict=True)))
    found = mean_cross_entropy(jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(mask))
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-5)


def test_padding_never_reaches_the_loss():
    logits = jnp.asarray([[1.0, 2.0], [np.nan, np.inf]])
    targets, mask = jnp.asarray([[1.0, 0.0], [0.0, 0.0]]), jnp.asarray([True, False])
    assert np.isfinite(mean_cross_entropy(logits, targets, mask))
    assert mean_cross_entropy(logits, targets, jnp.zeros(2, bool)) == 0


def test_the_loss_of_half_precision_is_computed_in_float32():
    logits = jnp.full((1, 1000), 3, jnp.bfloat16)
    found = mean_cross_entropy(logits, jnp.full((1, 1000), 1e-3), jnp.ones(1, bool))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.log(1000), rtol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_k_agrees_with_sorting(k):
    rng = np.random.default_rng(k)
    logits = rng.integers(0, 4, size=(200, 7)).astype(np.float32)  # many ties
    class_ids = rng.integers(0, 7, size=200)
    order = np.argsort(-logits, axis=1, kind="stable")
    expected = [right in row[:k] for right, row in zip(class_ids, order, strict=True)]
    found = is_among_top(jnp.asarray(logits), jnp.asarray(class_ids), k)
    np.testing.assert_array_equal(found, expected)


def test_equal_logits_are_right_no_more_often_than_chance():
    found = is_among_top(jnp.zeros((10, 10)), jnp.arange(10), 1)
    assert found.sum() == 1


def test_a_nan_is_never_right():
    logits = jnp.asarray([[np.nan, 0.0], [5.0, np.nan], [1.0, 0.0]])
    np.testing.assert_array_equal(is_among_top(logits, jnp.zeros(3, int), 2), [False, False, True])
