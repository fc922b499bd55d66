"""DTSH: the losses and gradients of its authors' code and of DeepHash-pytorch; memory."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hybridhash_jax.methods.pairwise.dtsh import DTSH
from hybridhash_jax.methods.pairwise.pairs import triplet_sums
from tests.methods.pairwise import golden_files


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
@pytest.mark.parametrize("case", [f"{kind}{number}" for kind in "sm" for number in range(3)])
def test_within_a_batch_it_is_that_of_deephash_pytorch(case, dtype):
    golden = golden_files.load("DTSH_deephash_pytorch")
    with golden_files.precision(dtype):
        examples = golden_files.examples_of(golden[f"{case}_y"])
        golden_files.check_loss(
            lambda u: DTSH().loss(u, examples, None, golden_files.NO_STEP),
            [golden[f"{case}_u"]],
            golden[f"{case}_loss"],
            [golden[f"{case}_grad"]],
            dtype,
            tolerance=1e-3 if case[1] == "2" else 1e-5,  # its third batch reaches the clip
        )


def whole_bank(method, embeddings, labels, dtype):
    bank = method.init_state(jnp.asarray(labels), embeddings.shape[1], golden_files.NO_KEY)
    return dataclasses.replace(
        bank,
        embeddings=jnp.asarray(embeddings, dtype),
        labels=jnp.asarray(labels, bank.labels.dtype),
        seen=jnp.ones(len(labels), bool),
    )


@pytest.mark.parametrize("dtype", golden_files.PRECISIONS)
def test_with_the_whole_bank_it_is_that_of_the_authors(dtype):
    golden = golden_files.load("DTSH_official_byhand")
    labels, index = np.eye(golden["lab"].max() + 1)[golden["lab"]], golden["ix"]
    with golden_files.precision(dtype):
        for weight in (None, 0.0, 1.0):
            method = DTSH(variant="official", quantization=weight)
            bank = whole_bank(method, golden["U"], labels, dtype)
            examples = golden_files.examples_of(labels[index], index)

            def loss(u, method=method, bank=bank, examples=examples):
                return method.loss(u, examples, bank, jnp.zeros((), jnp.int32))

            outputs = golden["U"][index]
            if weight is None:
                golden_files.check_loss(loss, [outputs], golden["loss"], [golden["grad"]], dtype)
            else:
                value, _ = loss(jnp.asarray(outputs, dtype))
                parts = golden["loss_triplet"] + weight * golden["loss_quant"]
                np.testing.assert_allclose(value, parts, rtol=1e-5)


def test_samples_of_the_bank_differ_by_step_and_are_about_the_whole_in_the_mean():
    golden = golden_files.load("DTSH_official_byhand")
    labels, index = np.eye(golden["lab"].max() + 1)[golden["lab"]], golden["ix"]
    outputs = jnp.asarray(golden["U"][index], jnp.float32)
    examples = golden_files.examples_of(labels[index], index)
    method = DTSH(variant="official", samples=25)
    bank = whole_bank(method, golden["U"], labels, jnp.float32)
    loss = jax.jit(lambda step: method.loss(outputs, examples, bank, step)[0])
    values = [float(loss(jnp.asarray(step))) for step in range(20)]
    assert len(set(values)) > 10
    assert np.mean(values) == pytest.approx(float(golden["loss"]), rel=0.1)


def test_sums_over_triplets_and_their_gradient_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    scores = jnp.asarray(rng.normal(size=(5, 30)), jnp.float32)
    positive = rng.random(scores.shape) < np.asarray([[0.0], [0.1], [0.4], [0.7], [1.0]])
    negative = jnp.asarray(~positive & (rng.random(scores.shape) < 0.8))
    positive = jnp.asarray(positive)
    weights = jnp.arange(1.0, 6.0)

    def ours(scores):
        return weights @ triplet_sums(scores, positive, negative, jnp.tanh)

    def defined(scores):
        values = jnp.tanh(scores[:, :, None] - scores[:, None, :])
        is_triplet = positive[:, :, None] & negative[:, None, :]
        return weights @ jnp.where(is_triplet, values, 0).sum(axis=(1, 2))

    for mine, theirs in zip(
        jax.value_and_grad(ours)(scores), jax.value_and_grad(defined)(scores), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.thorough
def test_a_large_batch_takes_the_memory_of_its_pairs():
    images = 512  # all triplets at once: 512 MiB of float32
    examples = golden_files.examples_of(jnp.eye(8)[jnp.arange(images) % 8])
    gradient = jax.grad(lambda u: DTSH().loss(u, examples, None, golden_files.NO_STEP)[0])
    program: Any = jax.jit(gradient).lower(jnp.zeros((images, 16))).compile()
    assert program.memory_analysis().temp_size_in_bytes < 20 << 20
