"""GreedyHash: losses and gradients of its authors' formula as DeepHash-pytorch has it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.central.greedyhash import GreedyHash, greedy_loss
from tests.methods.central import golden

GOLDEN = golden.load("GreedyHash")


@golden.both_types
@pytest.mark.parametrize("number", range(3))
def test_loss_and_both_gradients_equal_the_authors_code(number, dtype):
    labels = jnp.asarray(GOLDEN[f"{number}_y"], jnp.float32)
    penalty = float(GOLDEN[f"{number}_alpha"])
    golden.check(
        lambda u, w: greedy_loss(u, labels, golden.whole(u), w, penalty=penalty),
        [GOLDEN[f"{number}_u"], GOLDEN["W"]],
        GOLDEN[f"{number}_loss"],
        [GOLDEN[f"{number}_grad"], GOLDEN[f"{number}_gradW"]],
        dtype,
    )


def test_several_labels_share_the_cross_entropy():
    outputs = jnp.asarray([[1.0, -1.0]])
    classifier = jnp.asarray([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    loss = greedy_loss(
        outputs, jnp.asarray([[1, 0, 1]]), jnp.ones(1, bool), classifier, penalty=0.1
    )
    logits = np.array([1.0, -1.0, 0.0])
    log_p = logits - np.log(np.exp(logits).sum())
    np.testing.assert_allclose(loss, -(log_p[0] + log_p[2]) / 2, rtol=1e-6)


def test_its_classifier_is_drawn_from_the_key():
    drawn = GreedyHash().init_parameters(10, 16, jax.random.key(0))
    assert drawn["classifier"].shape == (10, 16)
    assert 0.2 < np.abs(drawn["classifier"]).max() <= 0.25
