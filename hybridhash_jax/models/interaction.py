"""The interaction module: joins convolution and attention between two levels."""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hybridhash_jax.models.layers import Attention, LayerOptions, weight_count
from hybridhash_jax.models.ops import formulations


@dataclasses.dataclass(frozen=True)
class TokenOptions:
    """How block tokens are made and attend to each other."""

    heads: int
    layout: str  # "spatial" or "reference", see `TokenAttention`
    pool_kernel: int  # side of the square that is averaged into one token


def max_pool(x: Float[Array, "B H W C"], padding: str) -> Float[Array, "B h w C"]:
    """3x3 max-pool with stride 2; odd sides are halved upwards.

    "symmetric" pads 1 on every side (the authors' code); "same" pads as TensorFlow does, for an
    even side 0 before and 1 after (the published NesT weights).
    """
    height, width = x.shape[1:3]
    pads = _pool_pads(height, padding), _pool_pads(width, padding)
    return formulations.max_pool(x, pads)


def _pool_pads(side: int, padding: str) -> tuple[int, int]:
    """Padding before and after one axis, just enough for every window."""
    before = 1 if padding == "symmetric" or side % 2 else 0
    total = (-(-side // 2) - 1) * 2 + 3 - side
    return before, total - before


def average_pool(x: Float[Array, "B H W C"], kernel: int) -> Float[Array, "B h w C"]:
    """Means over kernel x kernel squares."""
    batch, height, width, channels = x.shape
    rows, columns = height // kernel, width // kernel
    squares = x.reshape(batch, rows, kernel, columns, kernel, channels)  # [B, h, p, w, p, C]
    return squares.mean((2, 4))


def upsample(x: Float[Array, "B h w C"], factor: int) -> Float[Array, "B H W C"]:
    """Bilinear upsampling with half-pixel centres and clamped edges."""
    batch, height, width, channels = x.shape
    shape = (batch, height * factor, width * factor, channels)
    return jax.image.resize(x, shape, "bilinear")


class TokenAttention(nnx.Module):
    """Attention among the block tokens of a pooled map: no residual, no LayerNorm.

    The layout "spatial" takes the spatial positions as tokens, as the paper describes.
    "reference" does what the released code does: the channel-first memory [B, C, h, w] is read as
    [B, h*w, C] without a transpose, so that a token is a slice of channels.
    """

    def __init__(
        self,
        channels: int,
        grid: int,
        tokens: TokenOptions,
        *,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        if channels % tokens.heads:
            raise ValueError(
                f"token_heads={tokens.heads} does not divide the width {channels}; every width in "
                "embed_dims after the first must be a multiple of it"
            )
        self.layout = tokens.layout
        self.position_embedding = nnx.Param(jnp.zeros((1, grid * grid, channels), jnp.float32))
        self.attention = Attention(
            channels, tokens.heads, qkv_bias=False, options=options, rngs=rngs
        )

    def __call__(self, x: Float[Array, "B h w C"]) -> Float[Array, "B h w C"]:
        """Attention among all h * w tokens."""
        batch, height, width, channels = x.shape
        if self.layout == "reference":
            x = x.transpose(0, 3, 1, 2)  # [B, C, h, w]
        tokens = x.reshape(batch, height * width, channels)  # [B, N, C]
        tokens = tokens + self.position_embedding[...].astype(x.dtype)
        return self.attention(tokens).reshape(batch, height, width, channels)


class GlobalBranch(nnx.Module):
    """Average-pool to block tokens, an optional 1x1 convolution, token attention, upsampling."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        grid: int,
        tokens: TokenOptions,
        *,
        project: bool,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.pool_kernel = tokens.pool_kernel
        self.conv = (
            options.linear(channels_in, channels, use_bias=False, rngs=rngs) if project else None
        )
        self.token_attention = TokenAttention(
            channels, grid // tokens.pool_kernel, tokens, options=options, rngs=rngs
        )

    def __call__(
        self, x: Float[Array, "B G G C_in"]
    ) -> tuple[Float[Array, "B G G C"], Float[Array, "B g g C"]]:
        """(upsampled tokens, tokens), where g = G / p."""
        tokens = average_pool(x, self.pool_kernel)
        if self.conv is not None:  # after pooling, with which it commutes: p*p times less work
            tokens = self.conv(tokens)
        tokens = self.token_attention(tokens)
        return upsample(tokens, self.pool_kernel), tokens

    def multiply_adds(self, grid: int) -> int:
        """Of one image, whose map has this side."""
        tokens = (grid // self.pool_kernel) ** 2
        total = self.token_attention.attention.multiply_adds(1, tokens)
        return total + (tokens * weight_count(self.conv) if self.conv is not None else 0)


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

    def __call__(
        self, x: Float[Array, "B G G C_in"]
    ) -> tuple[Float[Array, "B g g C"], Float[Array, "B h w C"] | None]:
        """(map of half the side, the global branch's tokens or None)."""
        y, tokens = self.conv(x), None
        if self.global_branch is not None:
            spread, tokens = self.global_branch(x)
            y = y + spread
        return max_pool(self.norm(y), self.pool_padding), tokens

    def multiply_adds(self, grid: int) -> int:
        """Of one image, whose map has this side."""
        total = grid**2 * weight_count(self.conv)
        if self.global_branch is not None:
            total += self.global_branch.multiply_adds(grid)
        return total
