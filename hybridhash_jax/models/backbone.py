"""What a network needs of a backbone."""

from typing import Protocol, runtime_checkable

import jax

from hybridhash_jax.models.interaction import TokenOptions
from hybridhash_jax.models.layers import LayerOptions

RGB = tuple[float, float, float]


@runtime_checkable
class Backbone(Protocol):
    """Images to features."""

    image_size: int  # side, in pixels; 0 where vectors come in
    width: int  # channels of the features
    grid: int  # side of the feature map; 1 for vectors of features
    options: LayerOptions
    # Of pixels in 0..1, per channel, RGB: images come in as (pixel - mean) / std.
    pixel_mean: RGB
    pixel_std: RGB

    @property
    def stage_paths(self) -> dict[str, str]:
        """Of each stage that others can go on behind, in order: where its parameters' paths begin."""
        ...

    def stages(
        self, x: jax.Array, key: jax.Array | None = None, after: str | None = None
    ) -> dict[str, jax.Array]:
        """Outputs by name, "features" the last: a map [B, G, G, C], or vectors [B, C].

        `x` are images or, with `after`, the output of that stage, behind which it goes on.
        """
        ...

    def multiply_adds(self) -> int:
        """Of one image."""
        ...


@runtime_checkable
class TokenBackbone(Backbone, Protocol):
    """A backbone whose feature map can be pooled to block tokens, for `heads.HashHead`."""

    tokens: TokenOptions
