"""DPSH: the losses and gradients of its authors' code and of DeepHash-pytorch."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.pairwise.dpsh import DPSH
from hybridhash_jax.methods.pairwise.dsh import DSH
from tests.methods.pairwise import golden_files


def check_batches(method, golden, batches, labels, dtype):
    """Trains the bank by the batches in turn, each as the file has it; returns the bank."""
    bank = method.init_state(jnp.zeros((40, 5)), 12, golden_files.NO_KEY)
    bank = dataclasses.replace(bank, embeddings=jnp.zeros((40, 12), dtype))
    for batch in batches:
        index = golden[f"{batch}_ind"]
        examples = golden_files.examples_of(labels(batch, index), index)
        bank = golden_files.check_loss(
            lambda u, examples=examples, bank=bank: method.loss(
                u, examples, bank, golden_files.NO_STEP
            ),
            [golden[f"{batch}_u"]],
            golden[f"{batch}_loss"],
            [golden[f"{batch}_grad"]],
            dtype,
        )
    return bank


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
def test_the_loss_is_that_of_the_authors(dtype):
    golden = golden_files.load("DPSH_official")
    with golden_files.precision(dtype):
        method = DPSH(unseen="negative")
        check_batches(method, golden, range(4), lambda _, i: golden["train_labels"][i], dtype)
        index = golden["0_ind"]
        examples = golden_files.examples_of(golden["train_labels"][index], index)
        for weight in (0.0, 1.0):
            alone = DPSH(unseen="negative", quantization=weight)
            bank = alone.init_state(jnp.zeros((40, 5)), 12, golden_files.NO_KEY)
            loss, _ = alone.loss(
                jnp.asarray(golden["0_u"], dtype), examples, bank, golden_files.NO_STEP
            )
            parts = golden["0_loss_pair"] + weight * golden["0_loss_quant"]
            np.testing.assert_allclose(loss, parts, rtol=1e-5)


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("kind", ["s", "m"])
def test_with_means_it_is_that_of_deephash_pytorch(kind, dtype):
    golden = golden_files.load("DPSH_deephash_pytorch")
    with golden_files.precision(dtype):
        method = DPSH(variant="deephash", unseen="negative")
        batches = [f"{kind}{number}" for number in range(4)]
        bank = check_batches(method, golden, batches, lambda b, _: golden[f"{b}_y"], dtype)
        np.testing.assert_array_equal(bank.embeddings, golden[f"{kind}_bank_U"].astype(dtype))
        np.testing.assert_array_equal(bank.labels, golden[f"{kind}_bank_Y"])


def test_rows_not_seen_yet_cost_log_2_each_and_no_more():
    u, examples = jnp.asarray([[0.5, -1.0], [2.0, 0.1]]), golden_files.examples_of(np.eye(2))
    losses = [
        DPSH(unseen=unseen).loss(
            u,
            examples,
            DPSH().init_state(jnp.zeros((7, 2)), 2, golden_files.NO_KEY),
            golden_files.NO_STEP,
        )[0]
        for unseen in ("negative", "ignored")
    ]
    assert float(losses[0] - losses[1]) == pytest.approx(5 / 7 * np.log(2), rel=1e-5)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (DPSH(), np.log1p(np.exp(0.45))),  # theta is half of 0.9
        (DPSH(variant="deephash"), np.log1p(np.exp(0.45))),
        (DSH(variant="deephash"), (4 - 3.46) / 2),  # half of what the distance lacks to 2 K
    ],
)
def test_pairs_inside_the_batch_are_added_to_those_with_the_bank(method, expected):
    u, examples = jnp.asarray([[0.5, -1.0], [2.0, 0.1]]), golden_files.examples_of(np.eye(2))
    bank = method.init_state(jnp.zeros((7, 2)), 2, golden_files.NO_KEY)
    alone, beside = (
        dataclasses.replace(method, batch_weight=weight).loss(
            u, examples, bank, golden_files.NO_STEP
        )[0]
        for weight in (0.0, 2.0)
    )
    assert float(beside - alone) == pytest.approx(2 * expected, rel=1e-5)
