"""The memory bank holds what was seen last, and passes no gradient."""

import jax
import jax.numpy as jnp
import numpy as np
from hybridhash_jax.methods.memory_bank import create_bank, update_bank


def test_a_row_holds_the_embedding_seen_last():
    bank = create_bank(3, 2, 4)
    labels = jnp.eye(4, dtype=jnp.uint8)
    bank = update_bank(bank, jnp.asarray([0, 2]), jnp.full((2, 2), 0.5), labels[:2])
    bank = update_bank(bank, jnp.asarray([2]), jnp.full((1, 2), -0.25), labels[3:])
    np.testing.assert_array_equal(bank.embeddings, [[0.5, 0.5], [0, 0], [-0.25, -0.25]])
    np.testing.assert_array_equal(bank.labels, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(bank.seen, [True, False, True])


def test_an_index_past_the_end_writes_nothing():
    bank = create_bank(3, 2, 4)
    after = update_bank(bank, jnp.asarray([3, 3]), jnp.ones((2, 2)), jnp.ones((2, 4)))
    jax.tree.map(np.testing.assert_array_equal, bank, after)


def test_no_gradient_flows_into_the_bank():
    def total(u):
        bank = update_bank(create_bank(3, 2, 4), jnp.asarray([1]), u, jnp.ones((1, 4)))
        return bank.embeddings.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((1, 2))), 0.0)


def test_embeddings_are_float32_and_exactly_one_row_an_image():
    bank = create_bank(7, 5, 3)
    assert bank.embeddings.shape == (7, 5)
    assert bank.embeddings.dtype == jnp.float32
