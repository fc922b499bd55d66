"""CSQ: losses, gradients and targets of its authors and of DeepHash-pytorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.central.centres import published_centres
from hybridhash_jax.methods.central.csq import CSQ, central_loss, centres_of_labels
from tests.methods.central import golden

GOLDEN = golden.load("CSQ")


@golden.both_types
@pytest.mark.parametrize("case", [f"{kind}{number}" for kind in "sm" for number in range(3)])
def test_loss_gradient_and_targets_equal_deephash_pytorch(case, dtype):
    targets = centres_of_labels(
        jnp.asarray(GOLDEN[f"{case}_y"], jnp.float32),
        jnp.asarray(GOLDEN[f"{case[0]}_centres"], jnp.float32),
        2 * jnp.asarray(GOLDEN[f"{case[0]}_tie"], jnp.float32) - 1,  # stored as 0 and 1
    )
    np.testing.assert_array_equal(targets, GOLDEN[f"{case}_target"])
    golden.check(
        lambda u: central_loss(u, targets, golden.whole(u), quantization=1e-4),
        [GOLDEN[f"{case}_u"]],
        GOLDEN[f"{case}_loss"],
        [GOLDEN[f"{case}_grad"]],
        dtype,
    )


@golden.both_types
@pytest.mark.parametrize("number", range(3))
def test_loss_and_gradient_equal_the_authors_code(number, dtype):
    # Their targets of several labels, here of images with one each.
    ties = 2 * jnp.asarray(GOLDEN["off_random_center"], jnp.float32) - 1
    centres = jnp.asarray(GOLDEN["m_centres"], jnp.float32)
    targets = centres_of_labels(jnp.asarray(GOLDEN["m0_y"], jnp.float32), centres, ties)
    np.testing.assert_array_equal(targets, GOLDEN["off_target"])
    single = jnp.asarray(GOLDEN[f"s{number}_target"], jnp.float32)
    golden.check(
        lambda u: central_loss(u, single, golden.whole(u), quantization=0.05),
        [GOLDEN[f"s{number}_u"]],
        GOLDEN[f"off{number}_loss"],
        [GOLDEN[f"off{number}_grad"]],
        dtype,
    )


def test_the_option_chooses_the_centres():
    labels = jnp.zeros((1, 10))
    published = CSQ(centres="published").init_state(labels, 16, jax.random.key(0)).codes
    np.testing.assert_array_equal(published, published_centres(10, 16))
    spread = CSQ().init_state(labels, 16, jax.random.key(0)).codes
    assert not np.array_equal(spread, published)
