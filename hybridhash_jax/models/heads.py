"""Heads: what makes embeddings or logits of a backbone's features."""

import math
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hybridhash_jax.models.backbone import Backbone, TokenBackbone
from hybridhash_jax.models.interaction import GlobalBranch, max_pool
from hybridhash_jax.models.layers import weight_count


class HashHead(nnx.Module):
    """HybridHash's, of a feature map.

    1x3 and 3x1 convolutions plus a global branch; max-pool; 1x1 convolution; mean; tanh.
    """

    attribute = "hash_head"

    def __init__(self, backbone: TokenBackbone, outputs: int, *, rngs: nnx.Rngs):
        width, options = backbone.width, backbone.options
        self.conv_1x3 = options.conv(width, width, (1, 3), rngs=rngs)
        self.conv_3x1 = options.conv(width, width, (3, 1), rngs=rngs)
        self.global_branch = GlobalBranch(
            width, width, backbone.grid, backbone.tokens, project=False, options=options, rngs=rngs
        )
        self.to_bits = options.linear(width, outputs, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B G G C"]
    ) -> tuple[Float[Array, "B K"], Float[Array, "B g g K"]]:
        """(embeddings float32 in (-1, 1), the map before the mean)."""
        y = self.conv_3x1(self.conv_1x3(x)) + self.global_branch(x)[0]
        bit_map = self.to_bits(max_pool(y, "symmetric"))
        return jnp.tanh(bit_map.astype(jnp.float32).mean((1, 2))), bit_map

    def multiply_adds(self, grid: int) -> int:
        """Of one image."""
        total = grid**2 * (weight_count(self.conv_1x3) + weight_count(self.conv_3x1))
        total += math.ceil(grid / 2) ** 2 * weight_count(self.to_bits)
        return total + self.global_branch.multiply_adds(grid)


class LinearHead(nnx.Linear):
    """The mean over space of a feature map (or a vector of features), and a linear layer."""

    attribute = "hash_head"

    def __init__(self, backbone: Backbone, outputs: int, *, rngs: nnx.Rngs):
        zeros, dtype = nnx.initializers.zeros_init(), backbone.options.dtype
        super().__init__(backbone.width, outputs, kernel_init=zeros, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B ... C"]) -> tuple[Float[Array, "B K"], None]:
        """(float32 outputs, None)."""
        means = x.astype(jnp.float32).mean(tuple(range(1, x.ndim - 1)))
        return super().__call__(means).astype(jnp.float32), None

    def multiply_adds(self, grid: int) -> int:
        """Of one image."""
        del grid
        return weight_count(self)


class TanhHead(LinearHead):
    """A linear head whose outputs are in (-1, 1)."""

    def __call__(self, x: Float[Array, "B ... C"]) -> tuple[Float[Array, "B K"], None]:
        """(float32 outputs, None)."""
        return jnp.tanh(super().__call__(x)[0]), None


class ClassifierHead(LinearHead):
    """A linear head that gives logits. Its parameters are called as those of published weights."""

    attribute = "head"


Head = HashHead | LinearHead
HEADS: dict[str, Any] = {
    "hybridhash": HashHead,
    "linear": LinearHead,
    "tanh": TanhHead,
    "classifier": ClassifierHead,
}
