"""CNNH: the coordinate descent of DeepHash-pytorch, without its n x n matrix; the loss."""

import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.pairwise.cnnh import CNNH, factored
from tests.methods.pairwise import golden_files


def mean_of_definition(labels, embeddings):
    similar = labels @ labels.T > 0
    np.fill_diagonal(similar, True)
    wanted = embeddings.shape[1] * np.where(similar, 1, -1)
    return np.square(embeddings @ embeddings.T - wanted).mean()


@pytest.mark.parametrize("kind", ["s", "m"])
def test_sweeps_are_those_of_deephash_pytorch(kind):
    golden = golden_files.load("CNNH")
    labels, first = golden[f"{kind}_labels"], golden[f"{kind}_H0"]
    _, mean = factored(labels, first, 0)
    assert mean == pytest.approx(float(golden[f"{kind}_T0_obj_loss"]), rel=1e-12)
    for sweeps in (1, 3, 5):
        embeddings, mean = factored(labels, first, sweeps)
        name = f"{kind}_T{sweeps}"
        np.testing.assert_allclose(embeddings, golden[f"{name}_H"], atol=1e-11)
        np.testing.assert_array_equal(np.sign(embeddings), golden[f"{name}_code"])
        assert mean == pytest.approx(float(golden[f"{name}_obj_loss"]), rel=1e-11)


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("kind", ["s", "m"])
def test_the_loss_is_that_of_deephash_pytorch(kind, dtype):
    golden = golden_files.load("CNNH")
    with golden_files.precision(dtype):
        codes = jnp.asarray(golden[f"{kind}_T5_code"])
        index = golden[f"{kind}_2_ind"]
        examples = golden_files.examples_of(golden[f"{kind}_labels"][index], index)
        golden_files.check_loss(
            lambda u: CNNH("deephash").loss(u, examples, codes, golden_files.NO_STEP),
            [golden[f"{kind}_2_u"]],
            golden[f"{kind}_2_loss"],
            [golden[f"{kind}_2_grad"]],
            dtype,
        )


def test_an_image_without_labels_is_similar_to_itself_alone():
    labels = np.asarray([[1, 0], [0, 0], [1, 1], [0, 0], [0, 1], [0, 0]])
    first = np.random.default_rng(0).uniform(-1, 1, (6, 4))
    for sweeps in range(4):
        embeddings, mean = factored(labels, first, sweeps)
        assert mean == pytest.approx(mean_of_definition(labels, embeddings), rel=1e-12)
    # Where the last change of a sweep ends, no other value of its coordinate is better.
    embeddings, mean = factored(labels, first, 1)
    for change in (-1e-3, 1e-3):
        moved = embeddings.copy()
        moved[-1, -1] = np.clip(moved[-1, -1] + change, -1, 1)
        assert mean_of_definition(labels, moved) >= mean


def test_more_than_64_classes_are_told_apart():
    labels = np.eye(70)[[0, 0, 5, 69, 69, 64]]
    first = np.random.default_rng(1).uniform(-1, 1, (6, 4))
    embeddings, mean = factored(labels, first, 2)
    assert mean == pytest.approx(mean_of_definition(labels, embeddings), rel=1e-12)


def test_a_sweep_that_does_not_lower_the_mean_is_undone():
    labels = np.ones((2, 1))
    undone = 0
    for seed in range(30):
        first = np.random.default_rng(seed).uniform(-1, 1, (2, 8))
        before, means = first, [factored(labels, first, 0)[1]]
        for sweeps in range(1, 5):
            after, mean = factored(labels, first, sweeps)
            assert mean <= means[-1]
            undone += np.array_equal(after, before)
            before, means = after, [*means, mean]
    assert undone > 0


def test_codes_are_the_images_own():
    labels = np.eye(3)[np.arange(40) % 3]
    method = CNNH()
    codes = method.start(method.init_state(jnp.asarray(labels), 8, golden_files.NO_KEY), labels)
    assert codes.shape == (40, 8)
    assert codes.dtype == np.float32
    same = np.asarray(codes)[labels[:, 0] > 0]
    assert (same == same[0]).mean() > 0.95  # images of a class share a code
    order = np.random.default_rng(0).permutation(40)[:9]
    examples = golden_files.examples_of(labels[order], order)
    loss, _ = method.loss(
        jnp.asarray(20 * codes[order]), examples, jnp.asarray(codes), golden_files.NO_STEP
    )
    assert float(loss) == pytest.approx(0, abs=1e-6)


def test_the_replacement_of_an_unreadable_image_does_not_count():
    """It counts in a batch, but its index, n, is no row: it has no code to learn."""
    labels, codes = np.eye(2)[[0, 1, 0]], np.asarray([[1, -1.0], [-1, 1], [1, 1]])
    outputs = jnp.asarray([[0.5, -0.2], [0.9, 0.9]])
    losses = [
        CNNH().loss(
            outputs[:count],
            golden_files.examples_of(labels[:count], np.asarray([0, 3][:count])),
            jnp.asarray(codes),
            golden_files.NO_STEP,
        )[0]
        for count in (1, 2)
    ]
    assert float(losses[1]) == pytest.approx(float(losses[0]))
