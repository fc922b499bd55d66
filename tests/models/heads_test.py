"""Heads on a backbone that has nothing of NesT: the contract between the two."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hybridhash_jax import models
from hybridhash_jax.models.choices import check_choices
from hybridhash_jax.models.heads import HEADS
from hybridhash_jax.models.layers import GELUS, LayerOptions
from hybridhash_jax.models.remat import call


class Means(nnx.Module):
    """Three features an image, as a map or as a vector; without parameters."""

    width, options, image_size = 3, LayerOptions(), 4
    pixel_mean, pixel_std = (0.0,) * 3, (1.0,) * 3
    stage_paths: ClassVar[dict[str, str]] = {}

    def __init__(self, grid: int):
        self.grid = grid

    def stages(self, x, key=None, after=None):
        del key, after
        means = x.mean((1, 2))
        if self.grid == 1:
            return {"features": means}
        return {"features": jnp.broadcast_to(means[:, None, None], (len(x), 2, 2, 3))}

    def multiply_adds(self):
        return 7


def network(head: str, grid: int) -> Any:
    backbone: Any = Means(grid)
    found: Any = models.Network(backbone, HEADS[head](backbone, 5, rngs=nnx.Rngs(0)))
    linear = found.own_head
    linear.kernel[...] = jnp.arange(15.0).reshape(3, 5)
    linear.bias[...] = jnp.ones(5)
    return found


@pytest.mark.parametrize("grid", [1, 2])
@pytest.mark.parametrize("head", ["linear", "tanh", "classifier"])
def test_a_linear_head_takes_maps_and_vectors(head, grid):
    images = jax.random.normal(jax.random.key(0), (2, 4, 4, 3))
    expected = np.asarray(images.mean((1, 2))) @ np.arange(15.0).reshape(3, 5) + 1
    if head == "tanh":
        expected = np.tanh(expected)
    found = network(head, grid)(images)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_operations_are_those_of_backbone_and_head():
    assert models.forward_flops(network("linear", 2)) == 2 * (7 + 15)


def test_an_unknown_head_is_refused():
    with pytest.raises(ValueError, match="head='mlp' is unknown; accepted: hybridhash, linear"):
        models.create_network("demo_16px", head="mlp", outputs=4, rngs=nnx.Rngs(0))


def test_what_can_be_chosen_is_there():
    choices = {option.name: option.choices for option in models.OPTIONS}
    assert choices["gelu"] == tuple(GELUS)
    for remat in choices["remat"]:
        assert call(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), remat, jnp.ones((1, 2))).shape == (1, 2)
    with pytest.raises(ValueError, match="gelu='fast' .*accepted: exact, tanh"):
        check_choices(gelu="fast")
