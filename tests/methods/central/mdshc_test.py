"""MDSHC: losses and gradients of its authors, before and after the pairs set in; its centres."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.central import mdshc
from hybridhash_jax.methods.central.mdshc import MDSHC
from hybridhash_jax.methods.method import Examples, WholeRows
from tests.methods.central import golden

GOLDEN = golden.load("MDSHC")


@golden.both_types
@pytest.mark.parametrize("number", range(5))
def test_loss_and_gradient_equal_the_authors_code(number, dtype):
    labels = GOLDEN[f"{number}_y"]
    with jax.enable_x64(dtype == jnp.float64):
        # The batches one after another write the bank, which begins at random.
        others, other_labels = GOLDEN["U0"].copy(), GOLDEN["Y0"].copy()
        for earlier in range(number + 1):
            others[GOLDEN[f"{earlier}_ind"]] = GOLDEN[f"{earlier}_u2"]
            other_labels[GOLDEN[f"{earlier}_ind"]] = GOLDEN[f"{earlier}_y"]
        weights = jnp.asarray(labels @ other_labels.T > 0, dtype)

        def terms(u):
            mask = golden.whole(u)
            return (
                mdshc.centre_loss(u, jnp.asarray(labels), mask, jnp.asarray(GOLDEN["centres"])),
                mdshc.weighted_pair_sums(u, jnp.asarray(others, dtype), weights).mean(),
                mdshc.quantization_loss(u, mask),
            )

        counts = float(GOLDEN[f"{number}_epoch"] >= 9)

        def loss(u):
            centre, pair, quantization = terms(u)
            return centre + counts * pair + 1e-4 * quantization

        u = GOLDEN[f"{number}_u1"]
        centre, pair, _ = terms(jnp.asarray(u, dtype))
        tolerance = golden.TOLERANCES[dtype][0]
        np.testing.assert_allclose(centre, GOLDEN[f"{number}_loss_centre"], rtol=tolerance)
        np.testing.assert_allclose(counts * pair, GOLDEN[f"{number}_loss_pair"], rtol=tolerance)
    golden.check(loss, [u], GOLDEN[f"{number}_loss"], [GOLDEN[f"{number}_grad"]], dtype)


def examples_of(labels, second=None, index=(3, 0, 5, 1)):
    labels = jax.nn.one_hot(jnp.asarray(labels), 3)
    return Examples(labels, labels, jnp.ones(len(labels), bool), jnp.asarray(index), second=second)


def test_pairs_count_after_the_epochs_asked_for():
    method = MDSHC(start_epoch=2)
    state = method.init_state(jnp.zeros((6, 3)), 8, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1))
    outputs, second = (jax.random.uniform(key, (4, 8), minval=-1) for key in keys)
    examples, step = examples_of([0, 1, 0, 2], second), jnp.zeros((), jnp.int32)
    losses = []
    for _ in range(3):
        loss, state = method.loss(outputs, examples, state, step)
        losses.append(float(loss))
        state = method.end_epoch(state, step, WholeRows())
    assert losses[0] == losses[1] < losses[2]
    labels, mask = examples.labels, examples.mask
    pairs = mdshc.pair_sums((outputs, labels, mask), (second, labels, mask)).mean()
    np.testing.assert_allclose(losses[2] - losses[1], pairs, rtol=1e-5)
    np.testing.assert_array_equal(state.bank.embeddings[jnp.asarray([3, 0, 5, 1])], second)


def test_a_sure_network_has_a_finite_loss_and_gradient():
    labels, centres = jnp.asarray([[1, 0], [0, 1]]), jnp.asarray([[1.0] * 1024, [-1.0] * 1024])
    outputs = jnp.ones((2, 1024))
    value, gradient = jax.value_and_grad(mdshc.centre_loss)(
        outputs, labels, jnp.ones(2, bool), centres
    )
    # The second image is sure of the wrong class: both of its terms are the difference, 64.
    np.testing.assert_allclose(value, 64 / 2, rtol=1e-6)
    assert np.isfinite(gradient).all()


def test_several_labels_are_refused_in_a_sentence():
    MDSHC().check_labels(np.eye(3, dtype=np.uint8))
    with pytest.raises(ValueError, match=r"1 of 2 training images have several labels.*csq"):
        MDSHC().check_labels(np.asarray([[1, 0, 1], [0, 1, 0]]))


def test_its_start_separates_the_centres_and_says_how_far():
    method, labels = MDSHC(), np.eye(2, dtype=np.uint8)
    state = method.init_state(jnp.asarray(labels), 16, jax.random.key(0))
    assert mdshc.distance_of_centres(state) == (8, 9)
    started = method.start(state, labels)
    least, wanted = mdshc.distance_of_centres(started)
    assert least >= wanted == 9
    old, new = dataclasses.astuple(state), dataclasses.astuple(started)
    assert [getattr(x, "dtype", None) for x in old] == [getattr(x, "dtype", None) for x in new]


@pytest.mark.parametrize(("classes", "bits", "reached"), [(10, 16, True), (20, 4, False)])
def test_it_says_whether_its_centres_are_far_enough(classes, bits, reached):
    method, labels = MDSHC(), np.eye(classes, dtype=np.uint8)
    state = method.init_state(jnp.asarray(labels), bits, jax.random.key(0))
    note = method.note(method.start(state, labels))
    assert ("do not reach" not in note) == reached
