"""CSQ: centres, losses and gradients of DeepHash-pytorch, and centres where it has no rule."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.central.csq import CSQ, central_loss, centres_of_labels, hash_centres
from hybridhash_jax.methods.method import Examples

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "csq.npz")


@pytest.mark.parametrize("bits_and_classes", ["8_10", "16_10", "16_20", "16_21", "32_21", "64_100"])
def test_centres_are_the_published_rows_of_hadamard_matrices(bits_and_classes):
    bits, classes = map(int, bits_and_classes.split("_"))
    centres = GOLDEN[f"centres_{bits_and_classes}"]
    np.testing.assert_array_equal(hash_centres(classes, bits), centres)


@pytest.mark.parametrize("case", [f"{kind}{number}" for kind in "sm" for number in range(3)])
def test_loss_gradient_and_targets_equal_the_authors_code(case):
    u, labels = GOLDEN[f"{case}_u"], GOLDEN[f"{case}_y"]
    with jax.enable_x64(True):
        centres = jnp.asarray(GOLDEN[f"{case[0]}_centres"])
        ties = 2 * jnp.asarray(GOLDEN[f"{case[0]}_tie"]) - 1  # stored as 0 and 1
        targets = centres_of_labels(jnp.asarray(labels), centres, ties)
        np.testing.assert_array_equal(targets, GOLDEN[f"{case}_target"])

        def loss(u):
            return central_loss(u, targets, jnp.ones(len(u), bool), quantization=1e-4)

        value, gradient = jax.value_and_grad(loss)(jnp.asarray(u))
        np.testing.assert_allclose(value, GOLDEN[f"{case}_loss"], rtol=1e-10)
        np.testing.assert_allclose(gradient, GOLDEN[f"{case}_grad"], rtol=1e-9, atol=1e-12)


# The least distances of 20 and 8 are those of random centres by the authors' rule.
@pytest.mark.parametrize(
    ("classes", "bits", "least"), [(10, 48, 20), (100, 32, 8), (100, 12, 2), (3, 7, 2)]
)
def test_random_centres_are_balanced_different_and_far_apart(classes, bits, least):
    centres = hash_centres(classes, bits)
    assert ((centres == 1).sum(axis=1) == bits // 2).all()
    distances = (centres[:, None] != centres[None]).sum(-1)[~np.eye(classes, dtype=bool)]
    assert distances.min() >= least
    np.testing.assert_array_equal(centres, hash_centres(classes, bits))
    assert not np.array_equal(centres, hash_centres(classes, bits, seed=1))


def test_padding_and_images_without_a_label_count_for_nothing():
    method = CSQ()
    labels = jnp.asarray([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]])
    state = method.init_state(labels, 8, jax.random.key(0))
    outputs = jax.random.normal(jax.random.key(1), (4, 8))

    def loss(rows, mask):
        examples = Examples(labels[:rows], labels[:rows], mask, jnp.arange(rows))
        step = jnp.zeros((), jnp.int32)
        return method.loss(outputs[:rows], examples, state, step)[0]

    alone = loss(2, jnp.ones(2, bool))
    np.testing.assert_allclose(loss(4, jnp.asarray([True] * 3 + [False])), alone, rtol=1e-6)
    assert loss(2, jnp.zeros(2, bool)) == 0
