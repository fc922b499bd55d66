"""What a network needs of a backbone."""

from typing import Protocol, runtime_checkable

import jax

from hybridhash_jax.models.interaction import TokenOptions
from hybridhash_jax.models.layers import LayerOptions


@runtime_checkable
class Backbone(Protocol):
    """Images to features."""

    image_size: int  # side, in pixels
    width: int  # channels of the features
    grid: int  # side of the feature map; 1 for vectors of features
    options: LayerOptions

    def stages(self, images: jax.Array, key: jax.Array | None = None) -> dict[str, jax.Array]:
        """Outputs by name, "features" the last: a map [B, G, G, C], or vectors [B, C]."""
        ...

    def multiply_adds(self) -> int:
        """Of one image."""
        ...


@runtime_checkable
class TokenBackbone(Backbone, Protocol):
    """A backbone whose feature map can be pooled to block tokens, for `heads.HashHead`."""

    tokens: TokenOptions
