"""Stochastic depth drops whole branches of single images, whatever else is in the batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.models.stochastic_depth import branch_scales, drop_path, image_keys


def scales(rates, key, num_images) -> np.ndarray:
    found = branch_scales(rates, key, num_images)
    assert found is not None
    return np.asarray(found)


def test_branches_are_dropped_at_their_rate_and_keep_the_mean():
    found = scales([0.0, 0.3], jax.random.key(0), 20_000)
    assert found.shape == (2, 2, 20_000)
    np.testing.assert_array_equal(found[0], 1)
    np.testing.assert_allclose(np.unique(found[1]), [0, 1 / 0.7], rtol=1e-6)
    np.testing.assert_allclose(found[1].mean(axis=1), 1, atol=0.02)
    both = (found[1] == 0).all(axis=0).mean()  # the two branches are drawn apart
    assert both == pytest.approx(0.09, abs=0.01)


def test_an_image_is_dropped_alike_in_any_batch():
    keys = image_keys(jax.random.key(0), 8)
    whole = scales([0.5, 0.5], jax.random.key(0), 8)
    np.testing.assert_array_equal(scales([0.5, 0.5], keys[3:5], 2), whole[..., 3:5])
    assert len(np.unique(whole.reshape(4, 8), axis=1).T) > 2


def test_without_a_key_or_rate_nothing_is_dropped():
    assert branch_scales([0.3], None, 4) is None
    assert branch_scales([0.0, 0.0], jax.random.key(0), 4) is None
    x = jnp.ones((4, 5))
    assert drop_path(x, None) is x


def test_whole_samples_are_scaled():
    x = jnp.ones((2, 2, 3))
    np.testing.assert_array_equal(drop_path(x, jnp.asarray([0.0, 2.0]))[0], 0)
    np.testing.assert_array_equal(drop_path(x, jnp.asarray([0.0, 2.0]))[1], 2)


def test_too_few_keys_are_refused():
    with pytest.raises(ValueError, match="3,.* for 4 images"):
        image_keys(jax.random.split(jax.random.key(0), 3), 4)
