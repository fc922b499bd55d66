"""The NesT backbone (arXiv 2105.12723), with HybridHash's interaction modules between its levels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from hybridhash_jax.models.backbone import RGB
from hybridhash_jax.models.blocks import blockify, unblockify
from hybridhash_jax.models.choices import check_choices
from hybridhash_jax.models.interaction import GlobalBranch, InteractionModule, TokenOptions
from hybridhash_jax.models.layers import LayerOptions, TransformerLayer, weight_count
from hybridhash_jax.models.remat import call, call_in_turn, whole
from hybridhash_jax.models.stochastic_depth import branch_scales
from hybridhash_jax.preprocess import pixels


class Level(nnx.Module):
    """One level: the interaction module (not on level 0), then transformer layers in blocks."""

    def __init__(
        self,
        interaction: InteractionModule | None,
        layers: Sequence[TransformerLayer],
        drop_path_rates: Sequence[float],
        block_side: int,
        position_shape: tuple[int, int, int, int],
        remat: str,
    ):
        self.drop_path_rates = tuple(drop_path_rates)
        self.block_side = block_side
        self.remat = remat
        self.interaction = interaction
        self.position_embedding = nnx.Param(jnp.zeros(position_shape, jnp.float32))
        self.layers = nnx.List(layers)

    def __call__(
        self, x: Float[Array, "B G G C"], scales: Float[Array, "layers 2 B"] | None
    ) -> Float[Array, "B G G C"]:
        """The transformer layers; `scales` are those of `stochastic_depth.branch_scales`."""
        _, height, width, _ = x.shape
        x = blockify(x, self.block_side)  # [B, T, N, C]
        x = x + whole(self.position_embedding[...]).astype(x.dtype)
        x = call_in_turn(self.layers, self.remat, x, scales, self.drop_path_rates)
        return unblockify(x, self.block_side, height, width)


class NestBackbone(nnx.Module):
    """Images to a feature map.

    Args:
      image_size, patch_size: side of the (square) image and of a patch, in pixels. The grid
        G = image_size / patch_size must be divisible by 2^(levels - 1).
      embed_dims, num_heads, depths: width, attention heads and transformer layers of each level.
      mlp_ratio: hidden width of the MLPs, relative to the level's width.
      token_heads, token_layout: of the attention among block tokens, see `TokenAttention`.
      token_pooling: "block" (p = b, one token a block) or "half_block" (p = b/2).
      interaction: "full", or "none" for NesT's aggregation between levels.
      pool_padding, gelu, dtype, remat: see `max_pool`, `LayerOptions` and `remat.call`.
      drop_path_rate: stochastic depth of the last layer, rising linearly from 0 at the first.
      rngs: as for Flax's modules; weights stay 0 until `initialization.initialize` draws them.

    A ValueError for a size that does not fit (with the sizes that would), or an unknown option.
    """

    pixel_mean: RGB = pixels.MEAN
    pixel_std: RGB = pixels.STD

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 4,
        embed_dims: Sequence[int] = (128, 256, 512),
        num_heads: Sequence[int] = (4, 8, 16),
        depths: Sequence[int] = (2, 2, 15),
        mlp_ratio: float = 4.0,
        token_heads: int = 8,
        token_layout: str = "spatial",
        token_pooling: str = "block",
        interaction: str = "full",
        pool_padding: str = "symmetric",
        gelu: str = "exact",
        drop_path_rate: float = 0.0,
        remat: str = "none",
        dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        check_choices(
            token_layout=token_layout,
            token_pooling=token_pooling,
            interaction=interaction,
            pool_padding=pool_padding,
            gelu=gelu,
            remat=remat,
        )
        _check_levels(embed_dims, num_heads, depths, drop_path_rate)
        block_side = _block_side(image_size, patch_size, len(depths), token_pooling)
        pool_kernel = block_side if token_pooling == "block" else block_side // 2
        self.tokens = tokens = TokenOptions(token_heads, token_layout, pool_kernel)
        self.options = options = LayerOptions(gelu=gelu, dtype=dtype)
        self.image_size = image_size
        self.pool_padding = pool_padding
        self.remat = remat
        rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())
        grid, levels, module = image_size // patch_size, [], None
        self.patch_embed = options.patches(3, embed_dims[0], patch_size, rngs=rngs)
        for i, (channels, heads, depth) in enumerate(
            zip(embed_dims, num_heads, depths, strict=True)
        ):
            if i > 0:
                wider, branch = (embed_dims[i - 1], channels), None
                if interaction == "full":
                    branch = GlobalBranch(
                        *wider, grid, tokens, project=True, options=options, rngs=rngs
                    )
                module = InteractionModule(*wider, branch, pool_padding, options=options, rngs=rngs)
                grid //= 2
            layers = [
                TransformerLayer(channels, heads, mlp_ratio, options=options, rngs=rngs)
                for _ in range(depth)
            ]
            own = [next(rates) for _ in layers]
            position_shape = (1, (grid // block_side) ** 2, block_side**2, channels)
            levels.append(Level(module, layers, own, block_side, position_shape, remat))
        self.levels = nnx.List(levels)
        self.norm = options.norm(embed_dims[-1], rngs=rngs)
        self.width, self.grid = embed_dims[-1], grid

    @property
    def stage_paths(self) -> dict[str, str]:
        """Patches, levels, and the features behind the final LayerNorm."""
        levels = {f"level{i}": f"levels/{i}/" for i in range(len(self.levels))}
        return {"patch_embed": "patch_embed/"} | levels | {"features": "norm/"}

    def stages(
        self,
        x: Float[Array, "B H W C"],
        key: Key[Array, "..."] | None = None,
        after: str | None = None,
    ) -> dict[str, jax.Array]:
        """Every stage's output by name, in order, as maps [B, G, G, C].

        Names: patch_embed; level{i}; interaction{i} and interaction{i}_tokens for i > 0; features
        (after the final LayerNorm). `x` are images or, with `after`, the output of that stage of
        `stage_paths`, behind which it goes on. A `key`, one or one an image, switches stochastic
        depth on.
        """
        if after == "features":
            return {"features": x}
        rates = [rate for level in self.levels for rate in level.drop_path_rates]
        scales = None if key is None else branch_scales(rates, key, len(x))
        if after is None:
            self._check_images(x)
        x = x.astype(self.options.dtype)
        if after is None:
            x, after = call(self.patch_embed, "none", x), "patch_embed"
        out, first, done = {after: x}, 0, list(self.stage_paths).index(after)
        for i, level in enumerate(self.levels):
            own = slice(first, first + len(level.layers))
            first = own.stop
            if i < done:
                continue
            if level.interaction is not None:
                x, tokens = call(level.interaction, self.remat, x)
                if tokens is not None:
                    out[f"interaction{i}_tokens"] = tokens
                out[f"interaction{i}"] = x
            x = level(x, None if scales is None else scales[own])
            out[f"level{i}"] = x
        return out | {"features": call(self.norm, "none", x)}

    def _check_images(self, images: jax.Array) -> None:
        expected = (self.image_size, self.image_size, 3)
        if images.ndim != 4 or images.shape[1:] != expected:
            raise ValueError(
                f"images have shape {images.shape}; this network takes [B, {expected[0]}, "
                f"{expected[1]}, 3] (resize them, or build it with another image_size)"
            )

    def multiply_adds(self) -> int:
        """Of one image's products and convolutions."""
        grid = self.grid * 2 ** (len(self.levels) - 1)
        total = grid**2 * weight_count(self.patch_embed)
        for level in self.levels:
            if level.interaction is not None:
                total += level.interaction.multiply_adds(grid)
                grid //= 2
            tokens = level.block_side**2
            groups = grid**2 // tokens
            total += sum(layer.multiply_adds(groups, tokens) for layer in level.layers)
        return total


def _block_side(image_size: int, patch_size: int, num_levels: int, token_pooling: str) -> int:
    """Side b of a block, in tokens."""
    halvings = 2 ** (num_levels - 1)
    unit = patch_size * halvings * (2 if token_pooling == "half_block" else 1)
    if image_size < unit or image_size % unit:
        below = max(image_size // unit * unit, unit)
        raise ValueError(
            f"image_size={image_size} does not fit patch_size={patch_size} with {num_levels} "
            f'levels and token_pooling="{token_pooling}": it must be a multiple of {unit}, '
            f"for example {below} or {below + unit}"
        )
    return image_size // patch_size // halvings


def _check_levels(
    embed_dims: Sequence[int], num_heads: Sequence[int], depths: Sequence[int], rate: float
) -> None:
    given = f"got {tuple(embed_dims)}, {tuple(num_heads)} and {tuple(depths)}"
    if not len(embed_dims) == len(num_heads) == len(depths) >= 1:
        raise ValueError(f"embed_dims, num_heads and depths must name the same levels; {given}")
    if min(*embed_dims, *num_heads, *depths) < 1:
        raise ValueError(f"embed_dims, num_heads and depths must be at least 1; {given}")
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"drop_path_rate={rate} must be at least 0 and below 1")
