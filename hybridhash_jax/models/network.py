"""A network: a backbone and a head."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from hybridhash_jax.models.backbone import Backbone
from hybridhash_jax.models.choices import check_choices
from hybridhash_jax.models.heads import HEADS, Head
from hybridhash_jax.models.initialization import initialize
from hybridhash_jax.models.nest import NestBackbone
from hybridhash_jax.models.remat import call
from hybridhash_jax.models.variants import VARIANTS

_PLAIN_NEST = {"interaction": "none", "token_pooling": "block", "token_heads": 1}
# How often the classifier's first version drew from its source before its weights. A seed gives the
# same weights as ever.
_DRAWS_BEFORE_CLASSIFIER = 10


class Network(nnx.Module):
    """Images to embeddings or logits. Made by `create_network`.

    Called as `network(images)`, with images [B, H, W, 3] already normalised (see `preprocess`), it
    is deterministic. `key`, one or one an image, switches stochastic depth on. Of embeddings, the
    binary code is their sign, 0 counted as +1. The head is its `hash_head` or `head`.
    """

    def __init__(self, backbone: Backbone, head: Head):
        self.backbone = backbone
        self.head_name = head.attribute
        setattr(self, head.attribute, head)

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels."""
        return self.backbone.image_size

    @property
    def own_head(self) -> Head:
        """The head, whatever its name."""
        return getattr(self, self.head_name)

    def __call__(
        self, images: Float[Array, "B H W 3"], *, key: Key[Array, "..."] | None = None
    ) -> Float[Array, "B K"]:
        """Embeddings or logits in float32."""
        return self.stages(images, key=key)["embeddings"]

    def stages(
        self, images: Float[Array, "B H W 3"], *, key: Key[Array, "..."] | None = None
    ) -> dict[str, jax.Array]:
        """Every stage's output by name, in order.

        Those of the backbone; hash_conv (HybridHash's map before the mean over space); embeddings,
        which of a classifier are logits.
        """
        out = self.backbone.stages(images, key)
        outputs, before_mean = call(self.own_head, "none", out["features"])
        if before_mean is not None:
            out["hash_conv"] = before_mean
        return out | {"embeddings": outputs}


def create_network(
    variant: str | None = None,
    *,
    head: str = "hybridhash",
    outputs: int,
    rngs: nnx.Rngs,
    initializer: str | None = None,
    **overrides: Any,
) -> Network:
    """The named variant with a head, its parameters drawn.

    Args:
      variant: a key of `VARIANTS`; None has the sizes of `overrides` alone.
      head: a key of `HEADS`. A classifier has NesT's plain backbone, whatever `overrides` say of
        interaction and block tokens, and pads as published weights do unless told otherwise.
      outputs: code length K, or classes.
      rngs: where the initial parameters are drawn from.
      initializer: "fan_in", which None stands for, or "normal" (0.02, the authors').
      **overrides: arguments of `NestBackbone` that replace the variant's; None keeps the variant's.
    """
    initializer = initializer or "fan_in"
    check_choices(initializer=initializer, **({} if variant is None else {"variant": variant}))
    if head not in HEADS:
        raise ValueError(f"head={head!r} is unknown; accepted: {', '.join(HEADS)}")
    if outputs < 1:
        raise ValueError(f"outputs={outputs}; a code has at least 1 bit, a classifier 1 class")
    sizes: Mapping[str, Any] = {} if variant is None else VARIANTS[variant]
    sizes = {**sizes, **{name: value for name, value in overrides.items() if value is not None}}
    if head == "classifier":
        sizes = {"pool_padding": "same", **sizes, **_PLAIN_NEST}
    backbone = NestBackbone(rngs=rngs, **sizes)
    if head == "classifier":
        for _ in range(_DRAWS_BEFORE_CLASSIFIER):
            rngs.params()
    network = Network(backbone, HEADS[head](backbone, outputs, rngs=rngs))
    initialize(network, initializer, rngs.params())
    return network


def forward_flops(network: Network) -> int:
    """Operations of one image's forward pass: 2 a multiply-add, products and convolutions only.

    Normalisations, activations and pooling, under 1 % of the whole, are not counted. `network` may
    be abstract (from `nnx.eval_shape`).
    """
    backbone = network.backbone
    return 2 * (backbone.multiply_adds() + network.own_head.multiply_adds(backbone.grid))
