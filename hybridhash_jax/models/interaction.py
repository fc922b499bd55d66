"""The interaction module: what joins convolution and attention between two levels."""

import jax
import jax.numpy as jnp
from flax import nnx

from hybridhash_jax.models.layers import Attention, LayerOptions
from hybridhash_jax.models.ops import formulations

TOKEN_LAYOUTS = ("spatial", "reference")
POOL_PADDINGS = ("symmetric", "same")


def max_pool(x: jax.Array, padding: str) -> jax.Array:
    """3x3 max-pool with stride 2 on [B, H, W, C].

    Args:
      x: the map.
      padding: "symmetric" pads 1 on every side (the authors' code); "same" pads as TensorFlow
        does, for an even side 0 before and 1 after (the published NesT weights).

    Returns:
      [B, ceil(H/2), ceil(W/2), C].
    """
    height, width = x.shape[1:3]
    pads = _pool_pads(height, padding), _pool_pads(width, padding)
    return formulations.max_pool(x, pads)


def _pool_pads(side: int, padding: str) -> tuple[int, int]:
    """Padding before and after one axis, just enough for every window."""
    before = 1 if padding == "symmetric" or side % 2 else 0
    total = (-(-side // 2) - 1) * 2 + 3 - side
    return before, total - before


def average_pool(x: jax.Array, kernel: int) -> jax.Array:
    """Means over kernel x kernel squares: [B, H, W, C] -> [B, H/kernel, W/kernel, C]."""
    batch, height, width, channels = x.shape
    rows, columns = height // kernel, width // kernel
    return x.reshape(batch, rows, kernel, columns, kernel, channels).mean((2, 4))


def upsample(x: jax.Array, factor: int) -> jax.Array:
    """Bilinear upsampling with half-pixel centres and clamped edges."""
    batch, height, width, channels = x.shape
    shape = (batch, height * factor, width * factor, channels)
    return jax.image.resize(x, shape, "bilinear")


class TokenAttention(nnx.Module):
    """Attention among the block tokens of a pooled map: no residual, no LayerNorm.

    `token_layout` "spatial" takes the spatial positions as tokens, as the paper describes.
    "reference" does what the released code does: the channel-first memory [B, C, h, w] is read as
    [B, h*w, C] without a transpose, so that a token is a slice of channels.
    """

    def __init__(
        self,
        channels: int,
        grid: int,
        num_heads: int,
        token_layout: str,
        *,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.token_layout = token_layout
        self.position_embedding = nnx.Param(jnp.zeros((1, grid * grid, channels), jnp.float32))
        self.attention = Attention(channels, num_heads, qkv_bias=False, options=options, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, h, w, C] -> [B, h, w, C]."""
        batch, height, width, channels = x.shape
        if self.token_layout == "reference":
            x = x.transpose(0, 3, 1, 2)
        tokens = x.reshape(batch, height * width, channels)
        tokens = tokens + self.position_embedding[...].astype(x.dtype)
        return self.attention(tokens).reshape(batch, height, width, channels)


class GlobalBranch(nnx.Module):
    """Average-pool to block tokens, an optional 1x1 convolution, token attention, upsampling."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        grid: int,
        pool_kernel: int,
        *,
        project: bool,
        token_heads: int,
        token_layout: str,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.pool_kernel = pool_kernel
        self.conv = (
            options.linear(channels_in, channels, use_bias=False, rngs=rngs) if project else None
        )
        self.token_attention = TokenAttention(
            channels, grid // pool_kernel, token_heads, token_layout, options=options, rngs=rngs
        )

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[B, G, G, C_in] -> (upsampled [B, G, G, C], tokens [B, G/p, G/p, C])."""
        tokens = average_pool(x, self.pool_kernel)
        if self.conv is not None:  # after pooling, with which it commutes: p*p times less work
            tokens = self.conv(tokens)
        tokens = self.token_attention(tokens)
        return upsample(tokens, self.pool_kernel), tokens


class InteractionModule(nnx.Module):
    """Halves the grid and widens the channels between two levels.

    A local 3x3 convolution plus, unless `global_branch` is left out (plain NesT aggregation), the
    global branch; then LayerNorm and 3x3 max-pool.
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        global_branch: GlobalBranch | None,
        pool_padding: str,
        *,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.pool_padding = pool_padding
        self.conv = options.conv(channels_in, channels, (3, 3), rngs=rngs)
        self.global_branch = global_branch
        self.norm = options.norm(channels, rngs=rngs)

    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """[B, G, G, C_in] -> (map [B, G/2, G/2, C], the global branch's tokens or None)."""
        y, tokens = self.conv(x), None
        if self.global_branch is not None:
            spread, tokens = self.global_branch(x)
            y = y + spread
        return max_pool(self.norm(y), self.pool_padding), tokens
