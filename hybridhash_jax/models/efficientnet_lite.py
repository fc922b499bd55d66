"""The EfficientNet-Lite backbones (arXiv 1905.11946, as published for edge devices by its authors).

Inverted residual blocks of depthwise convolutions, with ReLU6 and without squeeze-and-excitation.
Batch norm uses its running statistics, and is folded into the convolutions; in training it may use
those of the batch, see `batch_statistics`.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Key

from hybridhash_jax.models.backbone import RGB
from hybridhash_jax.models.batch_statistics import keeper_of
from hybridhash_jax.models.choices import check_choices
from hybridhash_jax.models.layers import LayerOptions
from hybridhash_jax.models.ops.batch_norm import batch_norm as normalise
from hybridhash_jax.models.ops.depthwise import depthwise, relu6, same_padding
from hybridhash_jax.models.ops.sums import add_bias
from hybridhash_jax.models.remat import call
from hybridhash_jax.models.stochastic_depth import branch_scales, drop_path

STEM_WIDTH, FEATURE_WIDTH = 32, 1280  # the same in every variant
SMALLEST_IMAGE = 32  # five halvings
_EPSILON = 1e-3  # of batch norm
# Of each stage: blocks, side of the depthwise kernel, stride of its first block, expansion, width.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class ConvNorm(nnx.Module):
    """A convolution without bias, then batch norm."""

    def __init__(self, shape: tuple[int, ...], *, dtype: jax.typing.DTypeLike):
        """`shape` of the kernel: [C, D], [k, k, C, D] or, depthwise, [k, k, C]."""
        channels = shape[-1]
        self.dtype, self.is_folded = dtype, False
        self.kernel = nnx.Param(jnp.zeros(shape, jnp.float32))
        self.scale = nnx.Param(jnp.ones(channels, jnp.float32))
        self.bias = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.running_mean = nnx.Param(jnp.zeros(channels, jnp.float32))
        self.running_variance = nnx.Param(jnp.ones(channels, jnp.float32))

    def folded(self) -> tuple[jax.Array, jax.Array]:
        """(kernel, bias [D]) of the convolution with batch norm in it, both float32."""
        if self.is_folded:
            return self.kernel[...], self.bias[...]
        factor = self.scale[...] * lax.rsqrt(self.running_variance[...] + _EPSILON)
        kernel = self.kernel[...] * factor.reshape((1,) * (self.kernel.ndim - 1) + (-1,))
        return kernel, self.bias[...] - self.running_mean[...] * factor

    def fold(self) -> None:
        """Puts batch norm into kernel and bias for good, for a network that is only to be used."""
        kernel, bias = self.folded()
        self.kernel, self.bias, self.is_folded = nnx.Param(kernel), nnx.Param(bias), True

    def convolved(self, convolve: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """`convolve(kernel)` normalised: by running statistics in one folded operation."""
        keep = keeper_of(self)
        if keep is None:
            kernel, bias = self.folded()
            y = convolve(kernel.astype(self.dtype))
            return add_bias(y.reshape(-1, y.shape[-1]), bias).reshape(y.shape)
        y = convolve(self.kernel[...].astype(self.dtype))
        rows = y.reshape(-1, y.shape[-1])
        out, mean, variance = normalise(rows, self.scale[...], self.bias[...], _EPSILON)
        keep(mean, variance)
        return out.reshape(y.shape)


class Stem(ConvNorm):
    """A 3x3 convolution of stride 2 and ReLU6."""

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B h w C"]:
        """Half the size, rounded up."""
        pads = [same_padding(side, 3, 2) for side in images.shape[1:3]]
        names = ("NHWC", "HWIO", "NHWC")

        def convolve(kernel: jax.Array) -> jax.Array:
            return lax.conv_general_dilated(images, kernel, (2, 2), pads, dimension_numbers=names)

        return relu6(self.convolved(convolve))


class Pointwise(ConvNorm):
    """A 1x1 convolution."""

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        """The same at every place, as one product."""
        y = self.convolved(lambda kernel: x.reshape(-1, x.shape[-1]) @ kernel)
        return y.reshape(*x.shape[:-1], -1)


class Depthwise(ConvNorm):
    """A depthwise convolution."""

    def __call__(self, x: Float[Array, "B H W C"], stride: int) -> Float[Array, "B h w C"]:
        """1 / stride of the size, rounded up."""
        return self.convolved(lambda kernel: depthwise(x, kernel, stride))


class Block(nnx.Module):
    """An inverted residual block: expand, depthwise, project; the input added where it fits."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        side: int,
        stride: int,
        expansion: int,
        drop_path_rate: float,
        dtype: jax.typing.DTypeLike,
    ):
        hidden = inputs * expansion
        self.stride, self.drop_path_rate = stride, drop_path_rate
        self.is_residual = stride == 1 and inputs == outputs
        self.expand = Pointwise((inputs, hidden), dtype=dtype) if expansion > 1 else None
        self.depthwise = Depthwise((side, side, hidden), dtype=dtype)
        self.project = Pointwise((hidden, outputs), dtype=dtype)

    def __call__(
        self, x: Float[Array, "B H W C"], scale: Float[Array, " B"] | None = None
    ) -> Float[Array, "B h w D"]:
        """`scale` is what each image's branch is multiplied by, see `stochastic_depth`."""
        y = x if self.expand is None else relu6(self.expand(x))
        y = self.project(relu6(self.depthwise(y, self.stride)))
        return x + drop_path(y, scale) if self.is_residual else y

    def multiply_adds(self, size: int) -> tuple[int, int]:
        """(those of one image whose map has this side, the side of the result)."""
        out = -(-size // self.stride)
        total = 0 if self.expand is None else size**2 * self.expand.kernel.size
        total += out**2 * (self.depthwise.kernel.size + self.project.kernel.size)
        return total, out


class FeatureLayer(Pointwise):
    """A 1x1 convolution to the features, ReLU6, and the mean over space."""

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B D"]:
        """Float32."""
        return relu6(super().__call__(x)).mean((1, 2), dtype=jnp.float32)


class EfficientNetLite(nnx.Module):
    """Images to vectors of 1,280 features.

    Args:
      image_size: side of the square image, 32 or more; a size for which it was not trained works.
      width, depth: factors of the widths and of the numbers of blocks of lite0.
      drop_path_rate: stochastic depth of the last block, rising linearly from 0 at the first.
      batch_norm: "frozen", by running statistics also in training; or "batch", in training by those
        of the batch, which running ones follow. It is the training step that does so.
      remat: "none", or what the backward pass computes again, see `remat.call`.
      dtype: of the computation; parameters are float32.

    A ValueError for a size that does not fit, or "batch" together with `remat`.
    """

    # Of pixels in 0..1: (pixel - 127) / 128 in 0..255.
    pixel_mean: RGB = (127 / 255, 127 / 255, 127 / 255)
    pixel_std: RGB = (128 / 255, 128 / 255, 128 / 255)
    grid = 1
    width = FEATURE_WIDTH

    def __init__(
        self,
        *,
        image_size: int = 224,
        width: float = 1.0,
        depth: float = 1.0,
        drop_path_rate: float = 0.2,
        batch_norm: str = "frozen",
        remat: str = "none",
        dtype: jax.typing.DTypeLike = jnp.float32,
    ):
        if image_size < SMALLEST_IMAGE:
            raise ValueError(
                f"image_size={image_size} is too small for EfficientNet-Lite, which halves it five "
                f"times; give {SMALLEST_IMAGE} or more, best a multiple of 32"
            )
        if not 0.0 <= drop_path_rate < 1.0:
            raise ValueError(f"drop_path_rate={drop_path_rate} must be at least 0 and below 1")
        check_choices(batch_norm=batch_norm)
        if batch_norm == "batch" and remat != "none":
            raise ValueError(
                f"batch_norm='batch' needs remat='none', and it is {remat!r}; for less memory give "
                "accumulation_steps, or batch_norm='frozen'"
            )
        self.image_size, self.batch_norm, self.remat = image_size, batch_norm, remat
        self.options = LayerOptions(dtype=dtype)
        self.stem = Stem((3, 3, 3, STEM_WIDTH), dtype=dtype)
        sizes = _block_sizes(width, depth)
        self.blocks = nnx.List(
            Block(**one, drop_path_rate=drop_path_rate * i / len(sizes), dtype=dtype)
            for i, one in enumerate(sizes)
        )
        self.conv_head = FeatureLayer((sizes[-1]["outputs"], FEATURE_WIDTH), dtype=dtype)

    @property
    def stage_paths(self) -> dict[str, str]:
        """Of each stage, in order, where the paths of its parameters begin."""
        blocks = {f"block{i}": f"blocks/{i}/" for i in range(len(self.blocks))}
        return {"stem": "stem/"} | blocks | {"features": "conv_head/"}

    def stages(
        self, x: jax.Array, key: Key[Array, "..."] | None = None, after: str | None = None
    ) -> dict[str, jax.Array]:
        """Every stage's output by name, in order: stem, block{i} and features [B, 1280].

        `x` are images [B, H, W, 3] of any size from 32 on, or, with `after`, the output of that
        stage, behind which it goes on. A `key`, one or one an image, switches stochastic depth on.
        """
        names = list(self.stage_paths)
        first = 0 if after is None else names.index(after) + 1
        rates = [block.drop_path_rate for block in self.blocks]
        scales = None if key is None else branch_scales(rates, key, len(x))
        x = x.astype(self.options.dtype if first < len(names) else jnp.float32)
        out = {} if after is None else {after: x}
        for i, name in enumerate(names[first:], first):
            if name == "stem":
                x = call(self.stem, "none", x)
            elif name == "features":
                x = call(self.conv_head, "none", x)
            else:
                own = None if scales is None else scales[i - 1, 0]
                x = call(self.blocks[i - 1], self.remat, x, own)
            out[name] = x
        return out

    def multiply_adds(self) -> int:
        """Of one image's products and convolutions."""
        size = -(-self.image_size // 2)
        total = size**2 * self.stem.kernel.size
        for block in self.blocks:
            own, size = block.multiply_adds(size)
            total += own
        return total + size**2 * self.conv_head.kernel.size


def _block_sizes(width: float, depth: float) -> list[dict[str, int]]:
    """Arguments of every block."""
    sizes, inputs = [], STEM_WIDTH
    for number, (blocks, side, stride, expansion, outputs) in enumerate(_STAGES):
        scaled = _scaled_width(outputs, width)
        first_or_last = number in (0, len(_STAGES) - 1)
        for i in range(blocks if first_or_last else math.ceil(depth * blocks)):
            sizes.append(
                {
                    "inputs": inputs,
                    "outputs": scaled,
                    "side": side,
                    "stride": stride if i == 0 else 1,
                    "expansion": expansion,
                }
            )
            inputs = scaled
    return sizes


def _scaled_width(channels: int, factor: float) -> int:
    """The nearest multiple of 8, one more where rounding lost over a tenth."""
    scaled = channels * factor
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * scaled else rounded + 8
