"""HybridHash's pair loss and memory bank: the authors' numbers, hand-computed ones, padding."""

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods import Examples, hybridhash, memory_bank

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-6), (jnp.float64, 1e-10)])
def test_loss_and_gradient_equal_the_authors_code(dtype, tolerance):
    golden = np.load(GOLDEN / "hashnet_loss.npz")

    def step(u, bank, labels, index):
        bank = memory_bank.update_bank(bank, index, u, labels)
        mask = jnp.ones(len(index), bool)
        loss = hybridhash.bank_loss(
            u, labels, mask, bank, alpha=float(golden["alpha"]), unseen="negative"
        )
        return loss, bank

    # The authors weigh in float32 whatever the loss is in.
    with jax.enable_x64(dtype == jnp.float64), jax.numpy_dtype_promotion("standard"):
        _, _, bits = golden["u"].shape
        bank = memory_bank.create_bank(int(golden["num_train"]), bits, 10, dtype)
        differentiate = jax.jit(jax.value_and_grad(step, has_aux=True))
        for u, y, index, loss, grad in zip(
            *(golden[k] for k in ("u", "y", "index", "loss", "grad")), strict=True
        ):
            (ours, bank), ours_grad = differentiate(
                jnp.asarray(u, dtype), bank, jnp.asarray(y), jnp.asarray(index)
            )
            assert ours.dtype == dtype
            np.testing.assert_allclose(ours, loss, rtol=tolerance)
            scale = np.abs(grad).max()
            np.testing.assert_allclose(ours_grad, grad, rtol=tolerance, atol=tolerance * scale)


def hand_computed(theta_similar, theta_dissimilar):
    softplus = [math.log1p(math.exp(-t)) for t in theta_similar]
    mean = sum(softplus) / len(softplus) if softplus else 0.0
    softplus = [math.log1p(math.exp(t)) for t in theta_dissimilar]
    return mean + (sum(softplus) / len(softplus) if softplus else 0.0)


def test_batch_loss_is_the_two_means_over_pairs_of_different_images():
    u = jnp.asarray([[0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]])
    labels = jnp.asarray([[1, 0], [1, 1], [0, 1]])  # similar: 0-1 and 1-2; dissimilar: 0-2
    loss = hybridhash.batch_loss(u, labels, jnp.ones(3, bool), alpha=2.0)
    assert float(loss) == pytest.approx(hand_computed([0.0, 0.0], [-1.0]), rel=1e-6)


@pytest.mark.parametrize("pairs", ["bank", "batch"])
def test_alpha_over_bits_falls_with_the_code_length(pairs):
    for bits, alpha in ((16, 0.4), (64, 0.1)):
        u = jax.random.normal(jax.random.key(0), (6, bits))
        labels = jax.nn.one_hot(jnp.asarray([0, 1, 0, 2, 1, 0]), 3)
        mask, index = jnp.ones(6, bool), jnp.arange(6)
        method = hybridhash.HybridHash(pairs=pairs, alpha="6.4/bits")
        state = method.init_state(labels, bits, jax.random.key(1))
        examples = Examples(labels, labels, mask, index)
        loss, bank = method.loss(u, examples, state, jnp.zeros((), jnp.int32))
        if pairs == "bank":
            assert bank is not None
            expected = hybridhash.bank_loss(u, labels, mask, bank, alpha=alpha)
        else:
            expected = hybridhash.batch_loss(u, labels, mask, alpha=alpha)
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        assert hybridhash.alpha_for(0.5, bits) == 0.5


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        ({"batch_weight": 0.0, "from_scratch": True}, 0.0),
        ({"batch_weight": 0.5}, 0.5),
        ({"from_scratch": True}, 1.0),
        ({"from_scratch": False}, 0.0),
    ],
)
def test_pairs_inside_the_batch_are_added_to_those_with_the_bank(options, weight):
    u = jax.random.normal(jax.random.key(0), (6, 8))
    labels = jax.nn.one_hot(jnp.asarray([0, 1, 0, 2, 1, 0]), 3)
    mask, index = jnp.asarray([True] * 4 + [False] * 2), jnp.asarray([3, 1, 0, 4, 5, 5])
    method = hybridhash.HybridHash(**options)
    bank = memory_bank.update_bank(
        memory_bank.create_bank(5, 8, 3), index[:2], 2 - u[:2], labels[:2]
    )
    examples = Examples(labels, labels, mask, index)

    def of_method(u):
        return method.loss(u, examples, bank, jnp.zeros((), jnp.int32))

    def expected(u):
        own = memory_bank.update_bank(bank, index, u, labels)
        of_bank = hybridhash.bank_loss(u, labels, mask, own)
        return of_bank + weight * hybridhash.batch_loss(u, labels, mask) if weight else of_bank

    (found, after), grad = jax.value_and_grad(of_method, has_aux=True)(u)
    loss, expected_grad = jax.value_and_grad(expected)(u)
    rtol = 1e-6 if weight else 0  # as published to the last bit
    np.testing.assert_allclose(found, loss, rtol=rtol)
    np.testing.assert_allclose(grad, expected_grad, rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(after.embeddings[:4], jnp.stack([u[2], u[1], 0 * u[0], u[0]]))


def test_padding_changes_nothing():
    keys = jax.random.split(jax.random.key(0), 3)
    u = jax.random.uniform(keys[0], (6, 8), minval=-1, maxval=1)
    labels = jax.nn.one_hot(jnp.asarray([0, 1, 0, 2, 1, 0]), 3)
    mask = jnp.asarray([True] * 4 + [False] * 2)
    whole = hybridhash.batch_loss(u[:4], labels[:4], mask[:4])
    np.testing.assert_allclose(hybridhash.batch_loss(u, labels, mask), whole, rtol=1e-6)
    bank = memory_bank.create_bank(5, 8, 3)
    index = jnp.asarray([3, 1, 0, 4, 5, 5])
    padded = memory_bank.update_bank(bank, index, u, labels)
    plain = memory_bank.update_bank(bank, index[:4], u[:4], labels[:4])
    jax.tree.map(np.testing.assert_array_equal, padded, plain)
    np.testing.assert_allclose(
        hybridhash.bank_loss(u, labels, mask, plain),
        hybridhash.bank_loss(u[:4], labels[:4], mask[:4], plain),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("labels", "terms"),
    [([[1, 0], [1, 0]], ([0.25], [])), ([[1, 0], [0, 1]], ([], [0.25]))],
    ids=["only similar", "only dissimilar"],
)
def test_one_kind_of_pair_contributes_only_its_term(labels, terms):
    u = jnp.asarray([[0.5, 0.5], [0.5, 0.5]])
    value, grad = jax.value_and_grad(hybridhash.batch_loss)(
        u, jnp.asarray(labels), jnp.ones(2, bool)
    )
    assert float(value) == pytest.approx(hand_computed(*terms), rel=1e-6)
    assert np.isfinite(grad).all()


def test_a_batch_of_padding_only_costs_nothing():
    u = jnp.ones((2, 4))
    value, grad = jax.value_and_grad(hybridhash.batch_loss)(u, jnp.ones((2, 3)), jnp.zeros(2, bool))
    assert float(value) == 0.0
    np.testing.assert_array_equal(grad, 0.0)


def test_unseen_rows_count_as_dissimilar_only_when_asked():
    u, labels = jnp.asarray([[0.5, 0.5]]), jnp.asarray([[1, 0]])
    bank = memory_bank.create_bank(4, 2, 2)
    bank = memory_bank.update_bank(bank, jnp.asarray([2]), u, labels)
    of = (u, labels, jnp.ones(1, bool), bank)
    ignored = hybridhash.bank_loss(*of, unseen="ignored")
    negative = hybridhash.bank_loss(*of, unseen="negative")
    assert float(ignored) == pytest.approx(hand_computed([0.25], []), rel=1e-6)
    assert float(negative - ignored) == pytest.approx(math.log(2), rel=1e-6)


def test_the_loss_is_float32_whatever_the_network_computes_in():
    u = jnp.ones((2, 4), jnp.bfloat16)
    assert hybridhash.batch_loss(u, jnp.ones((2, 1)), jnp.ones(2, bool)).dtype == jnp.float32


def test_a_row_holds_the_embedding_seen_last():
    bank = memory_bank.create_bank(3, 2, 4)
    labels = jnp.eye(4, dtype=jnp.uint8)
    bank = memory_bank.update_bank(bank, jnp.asarray([0, 2]), jnp.full((2, 2), 0.5), labels[:2])
    bank = memory_bank.update_bank(bank, jnp.asarray([2]), jnp.full((1, 2), -0.25), labels[3:])
    np.testing.assert_array_equal(bank.embeddings, [[0.5, 0.5], [0, 0], [-0.25, -0.25]])
    np.testing.assert_array_equal(bank.labels, [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    np.testing.assert_array_equal(bank.seen, [True, False, True])


def test_an_index_past_the_end_writes_nothing():
    bank = memory_bank.create_bank(3, 2, 4)
    after = memory_bank.update_bank(bank, jnp.asarray([3, 3]), jnp.ones((2, 2)), jnp.ones((2, 4)))
    jax.tree.map(np.testing.assert_array_equal, bank, after)


def test_no_gradient_flows_into_the_bank():
    def total(u):
        bank = memory_bank.update_bank(
            memory_bank.create_bank(3, 2, 4), jnp.asarray([1]), u, jnp.ones((1, 4))
        )
        return bank.embeddings.sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((1, 2))), 0.0)


def test_embeddings_are_float32_and_exactly_one_row_an_image():
    bank = memory_bank.create_bank(7, 5, 3)
    assert bank.embeddings.shape == (7, 5)
    assert bank.embeddings.dtype == jnp.float32
