"""Blockify against the definition, and its inverse."""

import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.models.blocks import blockify, unblockify


def test_blocks_and_tokens_are_row_major():
    x = np.arange(2 * 4 * 6).reshape(2, 4, 6, 1)
    blocks = np.asarray(blockify(jnp.asarray(x), 2))
    assert blocks.shape == (2, 6, 4, 1)
    np.testing.assert_array_equal(blocks[1, 4, :, 0], x[1, 2:4, 2:4, 0].ravel())


@pytest.mark.parametrize(("height", "width", "side"), [(4, 6, 2), (6, 6, 3), (5, 10, 5), (4, 4, 4)])
def test_unblockify_inverts_blockify(height, width, side):
    x = jnp.arange(3 * height * width * 2.0).reshape(3, height, width, 2)
    np.testing.assert_array_equal(unblockify(blockify(x, side), side, height, width), x)


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="5x4"):
        blockify(jnp.zeros((1, 5, 4, 1)), 2)
    with pytest.raises(ValueError, match="do not make a 4x8 map"):
        unblockify(jnp.zeros((1, 4, 4, 1)), 2, 4, 8)
