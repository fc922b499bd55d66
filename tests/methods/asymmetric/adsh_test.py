"""ADSH: the authors' numbers, the objective by its definition, several devices, what builds on it."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax import methods
from hybridhash_jax.methods import Examples, WholeRows
from hybridhash_jax.methods.asymmetric import adsh
from hybridhash_jax.methods.asymmetric.similar_sums import similar_sums

GOLDEN = np.load(Path(__file__).parents[2] / "golden" / "methods" / "ADSH_single.npz")
ROWS = WholeRows()
METHODS: Any = methods.METHODS


def wide(state):
    """The state in float64."""
    return jax.tree.map(lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x, state)


def drawn_state(method, labels, images, codes):
    """The state of an epoch that drew `images`, with `codes` [n, K] of all before it."""
    state = wide(
        method.init_state(jnp.asarray(labels, jnp.uint8), codes.shape[1], jax.random.key(0))
    )
    state = dataclasses.replace(state, codes=jnp.asarray(codes))
    return method.begin_epoch(state, jnp.asarray(images, jnp.int32), ROWS)


def examples_of(labels, index, **more: Any):
    labels = jnp.asarray(labels[index], jnp.uint8)
    return Examples(labels, labels, jnp.ones(len(index), bool), jnp.asarray(index), **more)


@pytest.mark.parametrize("epoch", range(4))
def test_losses_gradients_and_codes_equal_the_authors_code(epoch):
    golden = {
        key.removeprefix(f"{epoch}_"): GOLDEN[key] for key in GOLDEN.files if key[0] == str(epoch)
    }
    labels, method = GOLDEN["labels"], adsh.ADSH(images=10)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        state = drawn_state(method, labels, golden["select"], golden["V_before"])
        for batch in range(2):
            index = golden["select"][5 * batch : 5 * batch + 5]

            def loss(u, state=state, index=index):
                return method.loss(u, examples_of(labels, index), state, jnp.zeros((), int))

            u = jnp.asarray(golden[f"{batch}_u"])
            (value, state), gradient = jax.value_and_grad(loss, has_aux=True)(u)
            np.testing.assert_allclose(value, golden[f"{batch}_loss"], rtol=1e-9)
            expected = golden[f"{batch}_grad"]
            np.testing.assert_allclose(gradient, expected, atol=1e-8 * np.abs(expected).max())
        outputs = jnp.asarray(golden["U"])
        state = dataclasses.replace(state, drawn=state.drawn._replace(outputs=outputs))
        learned = method.end_epoch(state, jnp.ones((), int), ROWS)
        np.testing.assert_array_equal(method.database_codes(learned), golden["V_after"])


def objective(labels, images, u, codes, gamma):
    """By its definition, un-normalised, with S of all pairs."""
    similar = labels[images] @ labels.T > 0
    s = np.where(similar, 1.0, -similar.sum() / (~similar).sum())
    pairs = np.square(u @ codes.T - codes.shape[1] * s).sum()
    return pairs + gamma * np.square(codes[images] - u).sum()


@pytest.mark.parametrize("several", [False, True])
def test_the_loss_is_the_objective_by_its_definition_and_learning_codes_lowers_it(several):
    random = np.random.default_rng(3)
    labels = np.eye(5)[random.integers(5, size=40)]
    if several:
        labels[::2, 2] = 1
        labels[7] = 0  # similar to none
    images, codes = random.permutation(40)[:12], np.sign(random.normal(size=(40, 6)))
    method = adsh.ADSH(images=12, gamma=30.0)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        state = drawn_state(method, labels, images, codes)
        u = np.tanh(random.normal(size=(12, 6)))
        loss, state = method.loss(
            jnp.asarray(u), examples_of(labels, images), state, jnp.zeros((), int)
        )
        before = objective(labels, images, u, codes, 30.0)
        np.testing.assert_allclose(loss, before / (40 * 12), rtol=1e-12)
        learned = np.asarray(method.end_epoch(state, jnp.ones((), int), ROWS).codes)
        assert objective(labels, images, u, learned, 30.0) < before


def test_padding_and_replaced_images_change_nothing():
    labels = np.eye(3)[np.arange(9) % 3]
    method, images = adsh.ADSH(images=4), np.array([5, 0, 7, 2])
    random = np.random.default_rng(0)
    u = np.tanh(random.normal(size=(4, 8)))
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        state = drawn_state(method, labels, images, np.sign(random.normal(size=(9, 8))))
        alone, kept = method.loss(
            jnp.asarray(u), examples_of(labels, images), state, jnp.zeros((), int)
        )
        more = np.concatenate([u, random.normal(size=(2, 8))])
        index = np.array([*images, 9, 9])
        padded = Examples(
            labels=jnp.asarray(labels[np.minimum(index, 8)], jnp.uint8),
            targets=jnp.zeros((6, 3)),
            mask=jnp.asarray([True] * 5 + [False]),  # the fifth stands for an unreadable image
            index=jnp.asarray(index),
        )
        loss, same = method.loss(jnp.asarray(more), padded, state, jnp.zeros((), int))
    np.testing.assert_allclose(loss, alone, rtol=1e-14)
    np.testing.assert_array_equal(same.drawn.outputs, kept.drawn.outputs)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("count", "others"), [(3, 3000), (3000, 3)])
def test_sums_over_similar_images_are_those_of_all_pairs(several, count, others, monkeypatch):
    monkeypatch.setattr("hybridhash_jax.methods.asymmetric.similar_sums._BLOCK", 1000)
    random = np.random.default_rng(1)
    one, two = (np.eye(7, dtype=np.uint8)[random.integers(7, size=n)] for n in (count, others))
    if several:
        one[0, :3] = 1
        two[-1] = 0
    values = random.integers(-5, 5, (others, 4)).astype(np.float32)
    expected = ((one.astype(int) @ two.T.astype(int)) > 0).astype(np.float32) @ values
    found = jax.jit(similar_sums)(jnp.asarray(one), jnp.asarray(two), jnp.asarray(values))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("admh_reconstructed", {"mu": 0.0, "nu": 0.0}),
        ("jldsh_reconstructed", {"eta": 0.0, "classification": 0.0}),
    ],
)
def test_a_reconstruction_without_its_terms_is_adsh(name, off):
    labels = jnp.asarray(np.eye(4, dtype=np.uint8)[np.arange(30) % 4])
    u = jnp.tanh(jax.random.normal(jax.random.key(2), (2, 10, 8)))
    images = jnp.arange(10, dtype=jnp.int32) * 3

    def run(method):
        state, losses = method.init_state(labels, 8, jax.random.key(0)), []
        own = {
            k: jnp.asarray(v) for k, v in method.init_parameters(4, 8, jax.random.key(1)).items()
        }
        for epoch in range(2):
            state = method.begin_epoch(state, images, ROWS)
            batch = Examples(labels[images], labels[images], jnp.ones(10, bool), images, own)
            loss, state = method.loss(u[epoch], batch, state, jnp.zeros((), jnp.int32))
            state = method.end_epoch(state, jnp.ones((), jnp.int32), ROWS)
            losses.append(float(loss))
        return losses, np.asarray(state.codes)

    losses, codes = run(adsh.ADSH(images=10))
    same_losses, same_codes = run(METHODS[name](images=10, **off))
    assert same_losses == losses
    np.testing.assert_array_equal(same_codes, codes)
    other_losses, _ = run(METHODS[name](images=10))
    assert other_losses[1] != losses[1], "its terms are terms"


def test_the_terms_of_admh_are_the_distances_to_centres():
    labels = np.eye(3)[np.array([0, 0, 1, 2, 1, 2])]
    labels[5, 1] = 1  # two labels
    method: Any = METHODS["admh_reconstructed"](images=6, gamma=0.0, mu=2.0, nu=3.0)
    random = np.random.default_rng(0)
    u = np.tanh(random.normal(size=(6, 4)))
    images = np.arange(6)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        state = drawn_state(method, labels, images, np.sign(random.normal(size=(6, 4))))
        _, state = method.loss(
            jnp.asarray(u), examples_of(labels, images), state, jnp.zeros((), int)
        )
        additions, own = method.additions(state, ROWS)
        centres = np.stack([u[labels[:, k] > 0].mean(axis=0) for k in range(3)])
        np.testing.assert_allclose(own["centres"], centres, rtol=1e-12)
        # Half the change of the objective's linear part with a code's bit from -1 to +1.
        expected = 2.0 * np.stack([centres[row > 0].mean(axis=0) for row in labels])
        expected -= 3.0 / 2 * np.stack([centres[row == 0].sum(axis=0) for row in labels])
        found = adsh._added(jnp.asarray(labels), additions)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
