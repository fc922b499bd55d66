"""DSH: the losses and gradients of its authors' code and of two ports."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.pairwise.dsh import DSH
from tests.methods.pairwise import golden_files


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize(("variant", "gradient"), [("official", "true"), ("caffe", "caffe")])
def test_the_loss_is_that_of_the_authors_with_its_gradient_or_with_theirs(variant, gradient, dtype):
    golden = golden_files.load("DSH_official_byhand")
    with golden_files.precision(dtype):
        for case in range(3):
            examples = golden_files.examples_of(golden[f"{case}_y"])
            golden_files.check_loss(
                lambda u, examples=examples: DSH(variant=variant).loss(
                    u, examples, None, golden_files.NO_STEP
                ),
                [golden[f"{case}_u"]],
                golden[f"{case}_loss"],
                [golden[f"{case}_grad_{gradient}"]],
                dtype,
            )


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
def test_with_images_themselves_it_is_a_port_to_pytorch(dtype):
    golden = golden_files.load("DSH_weixu000")
    with golden_files.precision(dtype):
        for case in range(3):
            examples = golden_files.examples_of(np.eye(5)[golden[f"{case}_cls"]])
            golden_files.check_loss(
                lambda u, examples=examples: DSH("weixu000").loss(
                    u, examples, None, golden_files.NO_STEP
                ),
                [golden[f"{case}_u"]],
                golden[f"{case}_loss"],
                [golden[f"{case}_grad"]],
                dtype,
            )


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("kind", ["s", "m"])
def test_with_a_bank_it_is_that_of_deephash_pytorch(kind, dtype):
    golden = golden_files.load("DSH_deephash_pytorch")
    method = DSH(variant="deephash", unseen="negative")
    with golden_files.precision(dtype):
        bank = method.init_state(jnp.zeros((40, 5)), 12, golden_files.NO_KEY)
        assert bank is not None
        bank = dataclasses.replace(bank, embeddings=jnp.zeros((40, 12), dtype))
        for batch in (f"{kind}{number}" for number in range(4)):
            examples = golden_files.examples_of(golden[f"{batch}_y"], golden[f"{batch}_ind"])
            bank = golden_files.check_loss(
                lambda u, examples=examples, bank=bank: method.loss(
                    u, examples, bank, golden_files.NO_STEP
                ),
                [golden[f"{batch}_u"]],
                golden[f"{batch}_loss"],
                [golden[f"{batch}_grad"]],
                dtype,
            )
        np.testing.assert_array_equal(bank.embeddings, golden[f"{kind}_bank_U"].astype(dtype))
        np.testing.assert_array_equal(bank.labels, golden[f"{kind}_bank_Y"])


def test_a_weight_that_is_given_takes_the_place_of_the_variants_own():
    examples = golden_files.examples_of(np.eye(2)[[0, 0, 1]])
    outputs = jnp.full((3, 4), 0.5)

    def loss(variant, weight=None):
        return DSH(variant, quantization=weight).loss(
            outputs, examples, None, golden_files.NO_STEP
        )[0]

    # Of four bits, each half a unit from its sign.
    assert float(loss("official", 1.0) - loss("official", 0.0)) == pytest.approx(2.0)
    assert float(loss("official") - loss("official", 0.0)) == pytest.approx(0.02)
    assert float(loss("weixu000") - loss("weixu000", 0.0)) == pytest.approx(0.04)
