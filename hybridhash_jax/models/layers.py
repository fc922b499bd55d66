"""The parts of a transformer layer."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from hybridhash_jax.models.ops import formulations
from hybridhash_jax.models.ops.attention import attend
from hybridhash_jax.models.ops.convolution import convolve
from hybridhash_jax.models.stochastic_depth import drop_path

GELUS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "exact": formulations.gelu,
    "tanh": functools.partial(jax.nn.gelu, approximate=True),
}


def weight_count(module: nnx.Linear | nnx.Conv) -> int:
    """Elements of the kernel: multiply-adds a token or place of the map."""
    return math.prod(module.kernel.shape)


# Weights are drawn for the whole network at once: see `initialization`.
_ZEROS = nnx.initializers.zeros_init()


class LayerNorm(nnx.LayerNorm):
    """LayerNorm over channels, statistics in float32."""

    def __call__(
        self, x: Float[Array, "*groups C"], *, mask: jax.Array | None = None
    ) -> Float[Array, "*groups C"]:
        """[..., C] normalised."""
        assert mask is None and self.scale is not None and self.bias is not None
        x = x.astype(self.dtype)
        return formulations.layer_norm(x, self.scale[...], self.bias[...], self.epsilon)


class Convolution(nnx.Conv):
    """A convolution with bias, of stride 1 and size-keeping zero padding."""

    def __call__(self, inputs: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        """[B, H, W, C] -> [B, H, W, D]."""
        assert self.bias is not None
        kernel, bias = self.kernel[...].astype(self.dtype), self.bias[...].astype(self.dtype)
        y = convolve(inputs.astype(self.dtype), kernel)
        return y + bias[None, None, None]


@dataclasses.dataclass(frozen=True)
class LayerOptions:
    """What every module of one network shares."""

    gelu: str = "exact"  # key of `GELUS`
    dtype: jax.typing.DTypeLike = jnp.float32  # of the computation; parameters are always float32

    def linear(self, inputs: int, outputs: int, *, use_bias: bool = True, rngs: nnx.Rngs):
        """A linear layer without its weights yet, computed as these options say."""
        options: dict[str, Any] = {"kernel_init": _ZEROS, "dtype": self.dtype, "rngs": rngs}
        return nnx.Linear(inputs, outputs, use_bias=use_bias, **options)

    def conv(self, inputs: int, outputs: int, kernel_size: tuple[int, int], *, rngs: nnx.Rngs):
        """A convolution that keeps the size, without its weights yet; kernel sides are odd."""
        options: dict[str, Any] = {"kernel_init": _ZEROS, "dtype": self.dtype, "rngs": rngs}
        return Convolution(inputs, outputs, kernel_size, **options)

    def patches(self, inputs: int, outputs: int, side: int, *, rngs: nnx.Rngs):
        """A convolution whose stride is its kernel's side, without its weights yet."""
        options: dict[str, Any] = {"kernel_init": _ZEROS, "dtype": self.dtype, "rngs": rngs}
        sides = (side, side)
        return nnx.Conv(inputs, outputs, sides, strides=sides, padding="VALID", **options)

    def norm(self, channels: int, *, rngs: nnx.Rngs):
        """LayerNorm over channels, eps 1e-6, statistics in float32."""
        return LayerNorm(channels, epsilon=1e-6, dtype=self.dtype, rngs=rngs)


class Attention(nnx.Module):
    """Multi-head self-attention among the N tokens of each group.

    Output channels are in the usual order, h * head_dim + c. (The authors' code and timm's NesT
    put the head index fastest; `pretrained` permutes the projection when it imports them.)
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        *,
        qkv_bias: bool,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        if channels % num_heads:
            raise ValueError(
                f"{channels} channels cannot be split into {num_heads} heads; the width of every "
                "level must be a multiple of its number of heads"
            )
        self.num_heads = num_heads
        self.qkv = options.linear(channels, 3 * channels, use_bias=qkv_bias, rngs=rngs)
        self.proj = options.linear(channels, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "*groups N C"]) -> Float[Array, "*groups N C"]:
        """Attention inside each group of N tokens only."""
        *groups, tokens, channels = x.shape
        # Products of two dimensions: several times faster on CPU than those of five.
        qkv = self.qkv(x.reshape(-1, channels)).reshape(-1, tokens, 3 * channels)  # [G, N, 3 C]
        out = attend(qkv, self.num_heads)  # [G, N, C]
        return self.proj(out.reshape(-1, channels)).reshape(*groups, tokens, channels)

    def multiply_adds(self, groups: int, tokens: int) -> int:
        """Of one image with so many groups of tokens."""
        products = 2 * tokens * self.proj.in_features  # scores, and their weighted sum
        return groups * tokens * (weight_count(self.qkv) + weight_count(self.proj) + products)


class Mlp(nnx.Module):
    """Linear, GELU, linear; on tokens flattened to two dimensions."""

    def __init__(self, channels: int, hidden: int, *, options: LayerOptions, rngs: nnx.Rngs):
        self.gelu = options.gelu
        self.fc1 = options.linear(channels, hidden, rngs=rngs)
        self.fc2 = options.linear(hidden, channels, rngs=rngs)

    def __call__(self, x: Float[Array, "*groups C"]) -> Float[Array, "*groups C"]:
        """[..., C] -> [..., C]."""
        flat = x.reshape(-1, x.shape[-1])  # [M, C]
        return self.fc2(GELUS[self.gelu](self.fc1(flat))).reshape(x.shape)


class TransformerLayer(nnx.Module):
    """x + DropPath(Attention(LN(x))), then x + DropPath(MLP(LN(x)))."""

    def __init__(
        self,
        channels: int,
        num_heads: int,
        mlp_ratio: float,
        *,
        options: LayerOptions,
        rngs: nnx.Rngs,
    ):
        self.norm1 = options.norm(channels, rngs=rngs)
        self.attention = Attention(channels, num_heads, qkv_bias=True, options=options, rngs=rngs)
        self.norm2 = options.norm(channels, rngs=rngs)
        self.mlp = Mlp(channels, int(channels * mlp_ratio), options=options, rngs=rngs)

    def __call__(
        self, x: Float[Array, "B T N C"], scales: Float[Array, "2 B"] | None = None
    ) -> Float[Array, "B T N C"]:
        """Both branches, multiplied by `scales` of `stochastic_depth.branch_scales`."""
        first, second = (None, None) if scales is None else scales
        x = x + drop_path(self.attention(self.norm1(x)), first)
        return x + drop_path(self.mlp(self.norm2(x)), second)

    def multiply_adds(self, groups: int, tokens: int) -> int:
        """Of one image with so many groups of tokens."""
        mlp = weight_count(self.mlp.fc1) + weight_count(self.mlp.fc2)
        return groups * tokens * mlp + self.attention.multiply_adds(groups, tokens)
