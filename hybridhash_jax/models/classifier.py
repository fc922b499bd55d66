"""NesT as an image classifier (arXiv 2105.12723): what ImageNet weights are published for."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from hybridhash_jax.models.hybridhash import HybridHash, backbone_stages
from hybridhash_jax.models.initialization import initialize
from hybridhash_jax.models.layers import LayerOptions
from hybridhash_jax.models.remat import call


class NestClassifier(nnx.Module):
    """The backbone of HybridHash without its global branches, a mean over space and a linear layer.

    Parameters have the same paths as in `HybridHash`, beside `head`.

    Args:
      num_classes: outputs of the linear layer.
      pool_padding: as the published weights were trained, unless told otherwise.
      **sizes: the other arguments of `HybridHash`, but for `bits`, `interaction` and those of
        block tokens.

    Raises:
      ValueError: a size that does not fit, or an unknown option.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        pool_padding: str = "same",
        initializer: str = "fan_in",
        rngs: nnx.Rngs,
        **sizes: Any,
    ):
        if num_classes < 1:
            raise ValueError(f"num_classes={num_classes}; a classifier has at least 1")
        network = HybridHash(
            bits=1,
            interaction="none",
            token_heads=1,
            pool_padding=pool_padding,
            rngs=rngs,
            **sizes,
        )
        self.image_size, self.dtype = network.image_size, network.dtype
        self.remat = network.remat
        self.patch_embed, self.levels, self.norm = network.patch_embed, network.levels, network.norm
        channels = self.norm.num_features
        self.head = LayerOptions(dtype=self.dtype).linear(channels, num_classes, rngs=rngs)
        initialize(self, initializer, rngs.params())

    def __call__(self, images: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """[B, H, W, 3] normalised -> logits [B, num_classes] float32; `key` as in `HybridHash`."""
        features = backbone_stages(self, images, key)["features"]
        means = features.astype(jnp.float32).mean((1, 2))
        return call(self.head, "none", means).astype(jnp.float32)
