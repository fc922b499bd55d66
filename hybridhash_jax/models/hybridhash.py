"""HybridHash (He & Wei, ICMR 2024, arXiv 2405.07524) on a NesT backbone (arXiv 2105.12723)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hybridhash_jax.models.blocks import blockify, unblockify
from hybridhash_jax.models.hash_head import HashHead
from hybridhash_jax.models.initialization import INITIALIZERS, initialize
from hybridhash_jax.models.interaction import (
    POOL_PADDINGS,
    TOKEN_LAYOUTS,
    GlobalBranch,
    InteractionModule,
)
from hybridhash_jax.models.layers import (
    GELUS,
    LayerOptions,
    TransformerLayer,
)
from hybridhash_jax.models.remat import REMAT, call, call_in_turn, whole
from hybridhash_jax.models.stochastic_depth import branch_scales

INTERACTIONS = ("full", "none")
TOKEN_POOLINGS = ("block", "half_block")


class Level(nnx.Module):
    """One level: the interaction module (not on level 0), then transformer layers in blocks."""

    def __init__(
        self,
        interaction: InteractionModule | None,
        layers: Sequence[TransformerLayer],
        block_side: int,
        position_shape: tuple[int, int, int, int],
        remat: str,
    ):
        self.block_side = block_side
        self.remat = remat
        self.interaction = interaction
        self.position_embedding = nnx.Param(jnp.zeros(position_shape, jnp.float32))
        self.layers = nnx.List(layers)

    def __call__(self, x: jax.Array, scales: jax.Array | None) -> jax.Array:
        """[B, G, G, C] -> [B, G, G, C]; `scales` has one entry a layer."""
        _, height, width, _ = x.shape
        x = blockify(x, self.block_side)
        x = x + whole(self.position_embedding[...]).astype(x.dtype)
        if self.remat != "none":
            x = call_in_turn(self.layers, self.remat, x, scales)
        else:
            for i, layer in enumerate(self.layers):
                own = None if scales is None or layer.drop_path_rate == 0 else scales[i]
                x = call(layer, self.remat, x, own)
        return unblockify(x, self.block_side, height, width)


class HybridHash(nnx.Module):
    """Images to embeddings in (-1, 1); the binary code is their sign, 0 counted as +1.

    Called as `model(images)`, with images [B, H, W, 3] already normalised (see `preprocess`), it
    is deterministic and returns [B, bits] in float32. `key`, one or one an image, switches
    stochastic depth on.

    Args:
      image_size, patch_size: side of the (square) image and of a patch, in pixels. The grid
        G = image_size / patch_size must be divisible by 2^(levels - 1).
      embed_dims, num_heads, depths: width, attention heads and transformer layers of each level.
      bits: code length K.
      mlp_ratio: hidden width of the MLPs, relative to the level's width.
      token_heads: attention heads among block tokens.
      token_layout: "spatial" (the paper) or "reference" (the released code's memory layout).
      token_pooling: "block" (p = b, one token a block) or "half_block" (p = b/2).
      interaction: "full", or "none" for NesT's aggregation between levels.
      pool_padding: "symmetric" (the authors) or "same" (the published NesT weights).
      gelu: "exact" (erf) or "tanh".
      drop_path_rate: stochastic depth of the last layer, rising linearly from 0 at the first.
      initializer: "fan_in", or "normal" (0.02, the authors').
      remat: what the backward pass computes again to save memory, see `remat.call`.
      dtype: type to compute in; parameters are float32, as are the embeddings.
      rngs: where the initial parameters are drawn from.

    Raises:
      ValueError: a size that does not fit (with the sizes that would), or an unknown option.
    """

    def __init__(
        self,
        *,
        image_size: int = 224,
        patch_size: int = 4,
        embed_dims: Sequence[int] = (128, 256, 512),
        num_heads: Sequence[int] = (4, 8, 16),
        depths: Sequence[int] = (2, 2, 15),
        bits: int = 64,
        mlp_ratio: float = 4.0,
        token_heads: int = 8,
        token_layout: str = "spatial",
        token_pooling: str = "block",
        interaction: str = "full",
        pool_padding: str = "symmetric",
        gelu: str = "exact",
        drop_path_rate: float = 0.0,
        initializer: str = "fan_in",
        remat: str = "none",
        dtype: jax.typing.DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        _check_options(
            token_layout=(token_layout, TOKEN_LAYOUTS),
            token_pooling=(token_pooling, TOKEN_POOLINGS),
            interaction=(interaction, INTERACTIONS),
            pool_padding=(pool_padding, POOL_PADDINGS),
            gelu=(gelu, tuple(GELUS)),
            initializer=(initializer, INITIALIZERS),
            remat=(remat, REMAT),
        )
        _check_levels(embed_dims, num_heads, depths, token_heads, bits, drop_path_rate)
        num_levels = len(depths)
        block_side = block_side_for(image_size, patch_size, num_levels, token_pooling)
        pool_kernel = block_side if token_pooling == "block" else block_side // 2
        options = LayerOptions(gelu=gelu, dtype=dtype)
        rates = iter(np.linspace(0.0, drop_path_rate, sum(depths)).tolist())

        def global_branch(channels_in: int, channels: int, grid: int, project: bool):
            return GlobalBranch(
                channels_in,
                channels,
                grid,
                pool_kernel,
                project=project,
                token_heads=token_heads,
                token_layout=token_layout,
                options=options,
                rngs=rngs,
            )

        self.image_size = image_size
        self.bits = bits
        self.remat = remat
        self.dtype = dtype
        grid, levels, module = image_size // patch_size, [], None
        self.patch_embed = options.patches(3, embed_dims[0], patch_size, rngs=rngs)
        for i, (channels, heads, depth) in enumerate(zip(embed_dims, num_heads, depths)):
            if i > 0:
                wider = (embed_dims[i - 1], channels)
                branch = global_branch(*wider, grid, True) if interaction == "full" else None
                module = InteractionModule(*wider, branch, pool_padding, options=options, rngs=rngs)
                grid //= 2
            layers = [
                TransformerLayer(
                    channels, heads, mlp_ratio, next(rates), options=options, rngs=rngs
                )
                for _ in range(depth)
            ]
            position_shape = (1, (grid // block_side) ** 2, block_side**2, channels)
            levels.append(Level(module, layers, block_side, position_shape, remat))
        self.levels = nnx.List(levels)
        self.norm = options.norm(embed_dims[-1], rngs=rngs)
        self.hash_head = HashHead(
            embed_dims[-1],
            bits,
            global_branch(embed_dims[-1], embed_dims[-1], grid, False),
            options=options,
            rngs=rngs,
        )
        initialize(self, initializer, rngs.params())

    def __call__(self, images: jax.Array, *, key: jax.Array | None = None) -> jax.Array:
        """[B, H, W, 3] normalised -> embeddings [B, K] float32 in (-1, 1)."""
        return self.stages(images, key=key)["embeddings"]

    def stages(self, images: jax.Array, *, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """Every stage's output by name, maps as NHWC, in order; "embeddings" is the last.

        Names: patch_embed; level{i}; interaction{i} and interaction{i}_tokens for i > 0; features
        (after the final LayerNorm); hash_conv (before the mean over space); embeddings.
        """
        out = backbone_stages(self, images, key)
        embeddings, bit_map = call(self.hash_head, "none", out["features"])
        return out | {"hash_conv": bit_map, "embeddings": embeddings}


def backbone_stages(network: Any, images: jax.Array, key: jax.Array | None) -> dict[str, jax.Array]:
    """The stages up to "features", of any network with patch_embed, levels and norm.

    See `HybridHash.stages` for their names.
    """
    expected = (network.image_size, network.image_size, 3)
    if images.ndim != 4 or images.shape[1:] != expected:
        raise ValueError(
            f"images have shape {images.shape}; this network takes [B, {expected[0]}, "
            f"{expected[1]}, 3] (resize them, or build it with another image_size)"
        )
    rates = [layer.drop_path_rate for level in network.levels for layer in level.layers]
    scales = branch_scales(rates, key, len(images))
    x = call(network.patch_embed, "none", images.astype(network.dtype))
    out, first = {"patch_embed": x}, 0
    for i, level in enumerate(network.levels):
        if level.interaction is not None:
            x, tokens = call(level.interaction, network.remat, x)
            if tokens is not None:
                out[f"interaction{i}_tokens"] = tokens
            out[f"interaction{i}"] = x
        own = slice(first, first + len(level.layers))
        x, first = level(x, None if scales is None else scales[own]), own.stop
        out[f"level{i}"] = x
    return out | {"features": call(network.norm, "none", x)}


def block_side_for(
    image_size: int, patch_size: int, num_levels: int, token_pooling: str = "block"
) -> int:
    """Side b of a block, in tokens.

    Raises:
      ValueError: the image does not divide into whole blocks; names the sizes that would.
    """
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


def _check_options(**options: tuple[str, tuple[str, ...]]) -> None:
    for name, (value, accepted) in options.items():
        if value not in accepted:
            raise ValueError(f"{name}={value!r} is unknown; accepted: {', '.join(accepted)}")


def _check_levels(embed_dims, num_heads, depths, token_heads, bits, drop_path_rate) -> None:
    if not len(embed_dims) == len(num_heads) == len(depths) >= 1:
        raise ValueError(
            "embed_dims, num_heads and depths must name the same levels; got "
            f"{tuple(embed_dims)}, {tuple(num_heads)} and {tuple(depths)}"
        )
    if min(*embed_dims, *num_heads, *depths) < 1:
        raise ValueError(
            "embed_dims, num_heads and depths must be at least 1; got "
            f"{tuple(embed_dims)}, {tuple(num_heads)} and {tuple(depths)}"
        )
    if bits < 1:
        raise ValueError(f"bits={bits}; a code has at least 1 bit (16 to 64 is usual)")
    if not 0.0 <= drop_path_rate < 1.0:
        raise ValueError(f"drop_path_rate={drop_path_rate} must be at least 0 and below 1")
    unfit = [width for width in embed_dims[1:] or embed_dims if width % token_heads]
    if unfit:
        raise ValueError(
            f"token_heads={token_heads} does not divide the width {unfit[0]}; every width in "
            f"embed_dims={tuple(embed_dims)} after the first must be a multiple of it"
        )
