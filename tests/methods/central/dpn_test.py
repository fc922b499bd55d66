"""DPN: losses, gradients and changes of the targets of its authors and of DeepHash-pytorch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.central.csq import centres_of_labels
from hybridhash_jax.methods.central.dpn import DPN, hinge_loss, mean_hinge_loss, updated_targets
from hybridhash_jax.methods.central.labelled import cross_entropy
from hybridhash_jax.methods.method import Examples, WholeRows
from tests.methods.central import golden

GOLDEN = golden.load("DPN")
CASES = pytest.mark.parametrize("case", [f"{kind}{number}" for kind in "sm" for number in range(3)])


@golden.both_types
@CASES
def test_loss_and_gradient_equal_the_authors_code(case, dtype):
    labels = jnp.asarray(GOLDEN[f"{case}_y"], jnp.float32)
    targets = jnp.asarray(GOLDEN["centroids"], jnp.float32)

    def loss(u):
        return hinge_loss(u, labels, golden.whole(u), targets, margin=1.0)

    def regularized(u):
        method = DPN(regularization=0.001)
        state = method.init_state(labels, u.shape[1], jax.random.key(0))
        state = dataclasses.replace(state, codes=targets)
        examples = Examples(labels, labels, golden.whole(u), jnp.arange(len(u)))
        return method.loss(u, examples, state, jnp.zeros((), jnp.int32))[0]

    u = GOLDEN[f"{case}_u"]
    golden.check(
        regularized, [u], GOLDEN[f"{case}_loss_sl_reg001"], [GOLDEN[f"{case}_grad"]], dtype
    )
    with jax.enable_x64(True):
        np.testing.assert_allclose(loss(jnp.asarray(u)), GOLDEN[f"{case}_loss_sl"], rtol=1e-9)


@pytest.mark.parametrize("number", range(3))
def test_the_cross_entropy_of_one_label_equals_the_authors_code(number):
    with jax.enable_x64(True):
        logits, labels = (jnp.asarray(GOLDEN[f"s{number}_{name}"]) for name in ("logits", "y"))
        ours = cross_entropy(logits, labels, golden.whole(logits))
        np.testing.assert_allclose(ours, GOLDEN[f"s{number}_loss_ce"], rtol=1e-9)


@golden.both_types
@CASES
def test_loss_and_gradient_equal_deephash_pytorch(case, dtype):
    targets = centres_of_labels(
        jnp.asarray(GOLDEN[f"dh_{case}_y"], jnp.float32),
        jnp.asarray(GOLDEN[f"dh_{case[0]}_targets"], jnp.float32),
        2 * jnp.asarray(GOLDEN[f"dh_{case[0]}_tie"], jnp.float32) - 1,  # stored as 0 and 1
    )
    golden.check(
        lambda u: mean_hinge_loss(u, targets, golden.whole(u), margin=1.0),
        [GOLDEN[f"dh_{case}_u"]],
        GOLDEN[f"dh_{case}_loss"],
        [GOLDEN[f"dh_{case}_grad"]],
        dtype,
    )


@pytest.mark.parametrize(("rate", "share"), [("0", 1.0), ("1.0", 1.0), ("0.5", 0.5)])
def test_changed_targets_equal_the_authors_code(rate, share):
    codes, labels, old = (
        jnp.asarray(GOLDEN[name], jnp.float32)
        for name in ("update_codes", "update_labels", "centroids")
    )
    changed, _ = updated_targets(codes, labels, old, share=share)
    np.testing.assert_array_equal(changed, GOLDEN[f"update_rate{rate}"])


@pytest.mark.parametrize("kind", "sm")
def test_changed_targets_equal_deephash_pytorch(kind):
    outputs = np.concatenate([GOLDEN[f"dh_{kind}{number}_u"] for number in range(3)])
    labels = np.concatenate([GOLDEN[f"dh_{kind}{number}_y"] for number in range(3)])
    changed, _ = updated_targets(
        jnp.asarray(outputs, jnp.float32),
        jnp.asarray(labels, jnp.float32),
        jnp.asarray(GOLDEN[f"dh_{kind}_targets"], jnp.float32),
        least=1.0,
    )
    np.testing.assert_array_equal(changed, GOLDEN[f"dh_{kind}_targets_after_A"])


def test_targets_change_after_the_epochs_asked_for_and_classes_unseen_keep_theirs():
    method = DPN(update_epochs=2)
    labels = jax.nn.one_hot(jnp.asarray([0, 0, 1]), 3)
    state = method.init_state(labels, 4, jax.random.key(0))
    outputs = jnp.asarray([[1.0, -1, 1, -1], [2, -2, -1, -3], [-1, 1, 1, 1]])
    examples = Examples(labels, labels, jnp.ones(3, bool), jnp.asarray([2, 0, 1]))
    step = jnp.zeros((), jnp.int32)
    _, state = method.loss(outputs, examples, state, step)
    first = method.end_epoch(state, step, WholeRows())
    np.testing.assert_array_equal(first.codes, state.codes)
    second = method.end_epoch(first, step, WholeRows())
    np.testing.assert_array_equal(second.codes[:2], [[1, -1, 0, -1], [-1, 1, 1, 1]])
    np.testing.assert_array_equal(second.codes[2], state.codes[2])


@pytest.mark.parametrize(
    ("method", "outputs"),
    [
        (
            DPN(update_epochs=1, update_share=0.5),
            [[1.0, -1, 1, -1], [2, -2, -1, -3], [-1, 1, 1, 1]],
        ),
        (DPN(update_epochs=1, variant="deephash"), [[0.3, -0.2, 0.1, 0.5]] * 3),
        (DPN(update_epochs=1, variant="deephash", update_share=0.5), [[0.3, -0.2, 0.1, 0.5]] * 3),
    ],
)
def test_no_target_is_lost_by_a_vote_of_nobody(method, outputs):
    """A class of one image has no half; an output within the margin has no say."""
    labels = jax.nn.one_hot(jnp.asarray([0, 0, 1]), 2)
    state = method.init_state(labels, 4, jax.random.key(0))
    examples = Examples(labels, labels, jnp.ones(3, bool), jnp.arange(3))
    step = jnp.zeros((), jnp.int32)
    _, seen = method.loss(jnp.asarray(outputs), examples, state, step)
    changed = method.end_epoch(seen, step, WholeRows()).codes
    expected = state.codes if method.variant == "deephash" else np.sign(outputs)[[0, 2]]
    np.testing.assert_array_equal(jnp.abs(changed), 1)
    np.testing.assert_array_equal(changed[1], expected[1])


def test_targets_are_of_the_kind_asked_for():
    labels = jnp.zeros((1, 20))
    drawn = {
        kind: np.asarray(DPN(targets=kind).init_state(labels, 32, jax.random.key(0)).codes)
        for kind in ("random", "greedy", "hadamard")
    }
    assert all(set(np.unique(codes)) == {-1, 1} for codes in drawn.values())
    least = {
        kind: (32 - (codes @ codes.T - 64 * np.eye(20)).max()) / 2 for kind, codes in drawn.items()
    }
    assert least["random"] < least["greedy"] < least["hadamard"] == 16
