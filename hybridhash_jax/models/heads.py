"""Heads: what makes embeddings or logits of a backbone's features."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from hybridhash_jax.models.backbone import Backbone, TokenBackbone
from hybridhash_jax.models.batch_statistics import counted_rows, keeper_of
from hybridhash_jax.models.interaction import GlobalBranch, max_pool
from hybridhash_jax.models.layers import LayerNorm, weight_count
from hybridhash_jax.models.stochastic_depth import image_keys

_UNITS_A_BIT = 50  # of DNNH's head
_EPSILON = 1e-5  # of batch norm, PyTorch's


class HashHead(nnx.Module):
    """HybridHash's, of a feature map.

    1x3 and 3x1 convolutions plus a global branch; max-pool; 1x1 convolution; mean; tanh.
    """

    attribute = "hash_head"
    has_dropout = False

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


def _mean_over_space(x: jax.Array) -> jax.Array:
    """Float32 [B, C] of a map, or of vectors as they are."""
    return x.astype(jnp.float32).mean(tuple(range(1, x.ndim - 1)))


class LinearHead(nnx.Linear):
    """The mean over space of a feature map (or a vector of features), and a linear layer."""

    attribute = "hash_head"
    has_dropout = False

    def __init__(self, backbone: Backbone, outputs: int, *, use_bias: bool = True, rngs: nnx.Rngs):
        zeros, dtype = nnx.initializers.zeros_init(), backbone.options.dtype
        options: dict[str, Any] = {"kernel_init": zeros, "dtype": dtype, "use_bias": use_bias}
        super().__init__(backbone.width, outputs, rngs=rngs, **options)

    def __call__(self, x: Float[Array, "B ... C"]) -> tuple[Float[Array, "B K"], None]:
        """(float32 outputs, None)."""
        return super().__call__(_mean_over_space(x)).astype(jnp.float32), None

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


def _dropped_out(y: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """The units [B, C] divided by 1 - rate, or 0; as they are without a key."""
    if key is None or not rate:
        return y
    keep = 1 - rate
    # The stream of an image's key that stochastic depth does not draw from.
    draw = jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, 1), keep, y.shape[1:]))
    return jnp.where(draw(image_keys(key, len(y))), y / keep, 0)


class HiddenHead(nnx.Module):
    """The mean over space, a hidden layer with ReLU, dropout in training, and a linear layer."""

    attribute = "hash_head"

    def __init__(
        self,
        backbone: Backbone,
        outputs: int,
        *,
        hidden: int = 512,
        dropout: float = 0.0,
        use_bias: bool = True,
        rngs: nnx.Rngs,
    ):
        if hidden < 1 or not 0 <= dropout < 1:
            raise ValueError(
                f"a hidden layer of {hidden} with dropout {dropout}; it has at least 1 unit, and "
                "dropout is at least 0 and below 1"
            )
        self.dropout = dropout
        self.fc1 = backbone.options.linear(backbone.width, hidden, rngs=rngs)
        self.fc2 = backbone.options.linear(hidden, outputs, use_bias=use_bias, rngs=rngs)

    @property
    def has_dropout(self) -> bool:
        """Does it take a key?"""
        return True

    def __call__(
        self, x: Float[Array, "B ... C"], key: Key[Array, "..."] | None = None
    ) -> tuple[Float[Array, "B K"], None]:
        """(float32 outputs, None). A `key`, one or one an image, switches dropout on."""
        y = _dropped_out(jax.nn.relu(self.fc1(_mean_over_space(x))), self.dropout, key)
        return self.fc2(y).astype(jnp.float32), None

    def multiply_adds(self, grid: int) -> int:
        """Of one image."""
        del grid
        return weight_count(self.fc1) + weight_count(self.fc2)


class HiddenTanhHead(HiddenHead):
    """A hidden head whose outputs are in (-1, 1)."""

    def __call__(
        self, x: Float[Array, "B ... C"], key: Key[Array, "..."] | None = None
    ) -> tuple[Float[Array, "B K"], None]:
        """(float32 outputs, None)."""
        return jnp.tanh(super().__call__(x, key)[0]), None


class Slices(nnx.Module):
    """A linear unit for each bit, of inputs of its own."""

    def __init__(self, inputs: int, outputs: int):
        self.kernel = nnx.Param(jnp.zeros((inputs, outputs), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))

    def __call__(self, x: Float[Array, "B K units"]) -> Float[Array, "B K"]:
        """Of the inputs of each bit."""
        return jnp.sum(x * self.kernel[...].T[None], axis=2) + self.bias[...][None]


class DivideAndEncodeHead(nnx.Module):
    """DNNH's (Lai et al., CVPR 2015): 50 units with ReLU for every bit, which no other bit sees.

    The outputs are those before the sigmoid. The paper's threshold behind it is left out, as in
    the published networks.
    """

    attribute = "hash_head"
    has_dropout = False

    def __init__(self, backbone: Backbone, outputs: int, *, rngs: nnx.Rngs):
        self.units = backbone.options.linear(backbone.width, _UNITS_A_BIT * outputs, rngs=rngs)
        self.slices = Slices(_UNITS_A_BIT, outputs)

    def __call__(self, x: Float[Array, "B ... C"]) -> tuple[Float[Array, "B K"], None]:
        """(float32 outputs, None)."""
        units = jax.nn.relu(self.units(_mean_over_space(x))).astype(jnp.float32)
        return self.slices(units.reshape(units.shape[0], -1, _UNITS_A_BIT)), None

    def multiply_adds(self, grid: int) -> int:
        """Of one image."""
        del grid
        return weight_count(self.units) + self.slices.kernel.size


class OutputBatchNorm(nnx.Module):
    """Batch norm of outputs: in training by the batch, see `batch_statistics`, else by running statistics."""

    def __init__(self, outputs: int, *, rngs: nnx.Rngs):
        del rngs
        self.scale = nnx.Param(jnp.ones(outputs, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(outputs, jnp.float32))
        self.running_mean = nnx.Param(jnp.zeros(outputs, jnp.float32))
        self.running_variance = nnx.Param(jnp.ones(outputs, jnp.float32))

    def __call__(self, x: Float[Array, "B K"]) -> Float[Array, "B K"]:
        """Float32."""
        mean, variance = self.running_mean[...], self.running_variance[...]
        if keep := keeper_of(self):
            rows = counted_rows(len(x))[:, None]
            count = jnp.maximum(rows.sum(), 1)
            mean = jnp.sum(rows * x, axis=0) / count
            variance = jnp.sum(rows * jnp.square(x - mean[None]), axis=0) / count
            keep(mean, variance)
        factor = self.scale[...] * jax.lax.rsqrt(variance + _EPSILON)
        return (x - mean[None]) * factor[None] + self.bias[...][None]


class NormalisedHead(nnx.Module):
    """A linear or hidden head without bias, a norm of its outputs, and perhaps tanh."""

    attribute = "hash_head"

    def __init__(self, inner: LinearHead | HiddenHead, norm: nnx.Module, *, squashes: bool):
        self.inner, self.norm, self.squashes = inner, norm, squashes

    @property
    def has_dropout(self) -> bool:
        """Does it take a key?"""
        return self.inner.has_dropout

    def __call__(
        self, x: Float[Array, "B ... C"], *key: Key[Array, "..."]
    ) -> tuple[Float[Array, "B K"], None]:
        """(float32 outputs, None)."""
        norm: Any = self.norm
        y = norm(self.inner(x, *key)[0]).astype(jnp.float32)
        return jnp.tanh(y) if self.squashes else y, None

    def multiply_adds(self, grid: int) -> int:
        """Of one image."""
        return self.inner.multiply_adds(grid)


class FeatureNorm(nnx.Module):
    """Features minus their mean, divided by one deviation for all of them; neither is trained.

    Both are those of the training images, set before training; until then 0 and 1.
    """

    def __init__(self, width: int):
        self.mean = nnx.Param(jnp.zeros(width, jnp.float32))
        self.deviation = nnx.Param(jnp.ones((), jnp.float32))

    def __call__(self, x: Float[Array, "B ... C"]) -> Float[Array, "B ... C"]:
        """Float32."""
        mean = self.mean[...].reshape((1,) * (x.ndim - 1) + (-1,))
        return (x.astype(jnp.float32) - mean) / self.deviation[...]


Head = HashHead | LinearHead | HiddenHead | DivideAndEncodeHead | NormalisedHead
HEADS: dict[str, Any] = {
    "hybridhash": HashHead,
    "linear": LinearHead,
    "tanh": TanhHead,
    "divide_and_encode": DivideAndEncodeHead,
    "classifier": ClassifierHead,
}
_HIDDEN = {"linear": HiddenHead, "tanh": HiddenTanhHead}
# Norm of the outputs, and whether tanh comes after it.
NORMS: dict[str, tuple[Any, bool]] = {
    "batch_norm": (OutputBatchNorm, False),
    "batch_norm_tanh": (OutputBatchNorm, True),
    "layer_norm_tanh": (LayerNorm, True),
}


def create_head(
    backbone: Backbone,
    name: str,
    kind: str | None,
    outputs: int,
    *,
    rngs: nnx.Rngs,
    hidden: int = 512,
    dropout: float = 0.0,
) -> Head:
    """The head that a method needs.

    Args:
      backbone: what its features come from.
      name: a key of `HEADS` or `NORMS`. HybridHash's own needs a map; of vectors it is "tanh".
      kind: "linear" or "hidden", in place of the method's own, with outputs as the method needs
        them; None: the method's own, which a classifier always has.
      outputs: code length K, or classes.
      rngs: where the initial parameters are drawn from.
      hidden, dropout: of kind "hidden".
    """
    if name not in HEADS | NORMS:
        raise ValueError(f"head={name!r} is unknown; accepted: {', '.join(HEADS | NORMS)}")
    if name == "hybridhash" and (kind or not isinstance(backbone, TokenBackbone)):
        name = "tanh"
    of_hidden: dict[str, Any] = {"hidden": hidden, "dropout": dropout, "rngs": rngs}
    if name in NORMS:
        norm, squashes = NORMS[name]
        if kind == "hidden":
            inner = HiddenHead(backbone, outputs, use_bias=False, **of_hidden)
        else:
            inner = LinearHead(backbone, outputs, use_bias=False, rngs=rngs)
        return NormalisedHead(inner, norm(outputs, rngs=rngs), squashes=squashes)
    if kind == "hidden" and name in _HIDDEN:
        return _HIDDEN[name](backbone, outputs, **of_hidden)
    return HEADS[name](backbone, outputs, rngs=rngs)
