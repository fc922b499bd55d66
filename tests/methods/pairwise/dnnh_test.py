"""DNNH: losses and gradients computed by hand from the paper and a port to Caffe."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.pairwise.dnnh import DNNH, encoded, triplet_loss
from tests.methods.pairwise import golden_files


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("form", ["sigmoid", "piecewise"])
def test_the_loss_of_given_triplets_is_as_published(form, case, dtype):
    golden = golden_files.load("DNNH_byhand")
    threshold = 0.5 if form == "sigmoid" else float(golden[f"{case}_eps"])
    name = {"sigmoid": "grad", "piecewise": "grad_piecewise"}[form]
    with golden_files.precision(dtype):
        # Each anchor has one positive and one negative.
        own, none = jnp.eye(6, dtype=bool), jnp.zeros((6, 6), bool)

        def loss(*outputs):
            anchors, positives, negatives = (encoded(z, threshold) for z in outputs)
            others = jnp.concatenate([positives, negatives])
            kinds = jnp.concatenate([own, none], axis=1), jnp.concatenate([none, own], axis=1)
            margin = float(golden[f"{case}_margin"])
            return triplet_loss(anchors, others, *kinds, margin=margin), None

        golden_files.check_loss(
            loss,
            [golden[f"{case}_z_{side}"] for side in "apn"],
            golden[f"{case}_loss_{form}"],
            [golden[f"{case}_{name}_{side}"] for side in "apn"],
            dtype,
        )


def test_a_batch_is_the_mean_over_all_its_triplets_of_different_images():
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(6, 4)).astype(np.float32)
    labels = np.asarray([[1, 0], [1, 1], [0, 1], [1, 0], [0, 1], [0, 0]])
    values, losses = 1 / (1 + np.exp(-outputs)), []
    for a, p, n in itertools.permutations(range(6), 3):
        if labels[a] @ labels[p] > 0 and labels[a] @ labels[n] == 0:
            near, far = (np.square(values[a] - values[x]).sum() for x in (p, n))
            losses.append(max(0.0, 0.3 + near - far))
    examples = golden_files.examples_of(labels)
    loss, _ = DNNH(margin=0.3).loss(jnp.asarray(outputs), examples, None, golden_files.NO_STEP)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
