"""Both initialisations have the spread they promise, and depend on the seed alone."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.parameters import parameter_paths


@functools.cache
def parameters(initializer, seed=0):
    model = models.create_network(
        "tiny_32px", outputs=64, rngs=nnx.Rngs(seed), initializer=initializer
    )
    return {path: np.asarray(value[...]) for path, value in parameter_paths(model).items()}


@pytest.mark.parametrize("initializer", ["fan_in", "normal"])
def test_each_kind_of_parameter_has_its_initial_values(initializer):
    for path, value in parameters(initializer).items():
        name = path.rsplit("/", 1)[-1]
        if name == "kernel":
            fan_in = np.prod(value.shape[:-1])
            std = 0.02 if initializer == "normal" else fan_in**-0.5
            assert value.std() == pytest.approx(std, rel=0.15), path
        elif name == "position_embedding" and "token_attention" not in path:
            assert value.std() == pytest.approx(0.02, rel=0.1), path
        else:
            np.testing.assert_array_equal(value, float(name == "scale"), err_msg=path)


def test_fan_in_is_truncated_at_two_standard_deviations_of_the_uncut_normal():
    kernel = parameters("fan_in")["levels/2/layers/0/mlp/fc1/kernel"] * 128**0.5
    assert 2.2 < np.abs(kernel).max() <= 2 / 0.8796


def test_the_seed_decides():
    first, same, other = (parameters("fan_in", seed) for seed in (0, 0, 1))
    path = "hash_head/to_bits/kernel"
    np.testing.assert_array_equal(first[path], same[path])
    assert np.abs(first[path] - other[path]).max() > 0.01


def test_no_two_parameters_share_their_numbers():
    kernels = [v.ravel()[:64] for k, v in parameters("normal").items() if k.endswith("kernel")]
    correlation = np.corrcoef(kernels) - np.eye(len(kernels))
    assert np.abs(correlation).max() < 0.7


def test_initialising_under_jit_gives_the_same_numbers():
    def create():
        return nnx.split(models.create_network("demo_16px", outputs=8, rngs=nnx.Rngs(2)))[1]

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), create(), jax.jit(create)()
    )
