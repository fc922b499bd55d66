"""Stochastic depth (Huang et al. 2016, arXiv 1603.09382), drawn for a whole network at once."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def image_keys(key: Key[Array, "..."], num_images: int) -> Key[Array, " {num_images}"]:
    """Keys [B], one an image, so that what is drawn for it does not depend on its neighbours.

    `key` is one, or already one an image.
    """
    if key.shape == (num_images,):
        return key
    if key.shape:
        raise ValueError(
            f"keys of shape {key.shape} for {num_images} images: give one, or one each"
        )
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(num_images))


def branch_scales(
    rates: Sequence[float], key: Key[Array, "..."] | None, num_images: int
) -> Float[Array, "layers 2 B"] | None:
    """What each image's two branches of every layer are multiplied by: 0, or 1 / (1 - rate).

    A layer's rate is the probability of a branch being dropped; `key` is one, or one an image.
    None without a key or where all rates are 0: nothing is dropped.
    """
    if key is None or not any(rates):
        return None
    keep = 1.0 - jnp.asarray(rates, jnp.float32)[:, None, None]
    draw = jax.vmap(lambda key: jax.random.uniform(key, (len(rates), 2), jnp.float32), out_axes=-1)
    return (draw(image_keys(key, num_images)) < keep).astype(jnp.float32) / keep


def drop_path(x: Float[Array, "B ..."], scale: Float[Array, " B"] | None) -> Float[Array, "B ..."]:
    """Multiplies each sample by its `scale`; None leaves x as it is."""
    if scale is None:
        return x
    return x * scale.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
