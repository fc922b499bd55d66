"""The hash head: from the last feature map to K values in (-1, 1)."""

import jax
import jax.numpy as jnp
from flax import nnx

from hybridhash_jax.models.interaction import GlobalBranch, max_pool
from hybridhash_jax.models.layers import LayerOptions


class HashHead(nnx.Module):
    """1x3 and 3x1 convolutions plus a global branch; max-pool; 1x1 convolution; mean; tanh."""

    def __init__(
        self,
        channels: int,
        bits: int,
        global_branch: GlobalBranch,
        *,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.conv_1x3 = options.conv(channels, channels, (1, 3), rngs=rngs)
        self.conv_3x1 = options.conv(channels, channels, (3, 1), rngs=rngs)
        self.global_branch = global_branch
        self.to_bits = options.linear(channels, bits, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, G, G, C] -> (embeddings [B, K] float32, the map before the mean)."""
        y = self.conv_3x1(self.conv_1x3(x)) + self.global_branch(x)[0]
        bit_map = self.to_bits(max_pool(y, "symmetric"))
        return jnp.tanh(bit_map.astype(jnp.float32).mean((1, 2))), bit_map
