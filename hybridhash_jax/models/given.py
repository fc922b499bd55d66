"""The backbone of networks whose input is features already."""

import jax
import jax.numpy as jnp
from flax import nnx

from hybridhash_jax.models.backbone import RGB
from hybridhash_jax.models.layers import LayerOptions


class GivenEmbeddings(nnx.Module):
    """Vectors of another model, as they are: the network is the head alone.

    Args:
      width: numbers of a vector.
      dtype: of the head's computation.
    """

    image_size, grid = 0, 1
    pixel_mean: RGB = (0.0, 0.0, 0.0)
    pixel_std: RGB = (1.0, 1.0, 1.0)

    def __init__(self, *, width: int, dtype: jax.typing.DTypeLike = jnp.float32):
        if width < 1:
            raise ValueError(f"width={width}; a vector has at least 1 number")
        self.width = width
        self.options = LayerOptions(dtype=dtype)

    @property
    def stage_paths(self) -> dict[str, str]:
        """Nothing comes before the features."""
        return {}

    def stages(
        self, x: jax.Array, key: jax.Array | None = None, after: str | None = None
    ) -> dict[str, jax.Array]:
        """The vectors [B, C] in float32; another width is a ValueError."""
        del key, after
        if x.ndim != 2 or x.shape[1] != self.width:
            raise ValueError(
                f"embeddings have shape {x.shape}; this network takes [B, {self.width}]"
            )
        return {"features": x.astype(jnp.float32)}

    def multiply_adds(self) -> int:
        """None."""
        return 0
