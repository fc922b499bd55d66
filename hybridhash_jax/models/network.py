"""A network: a backbone and a head."""

import inspect
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float, Key

from hybridhash_jax.models.backbone import Backbone
from hybridhash_jax.models.choices import check_choices
from hybridhash_jax.models.efficientnet_lite import EfficientNetLite
from hybridhash_jax.models.given import GivenEmbeddings
from hybridhash_jax.models.heads import FeatureNorm, Head, create_head
from hybridhash_jax.models.initialization import initialize
from hybridhash_jax.models.nest import NestBackbone
from hybridhash_jax.models.remat import call
from hybridhash_jax.models.variants import EFFICIENTNET_LITE, GIVEN, VARIANTS

_PLAIN_NEST = {"interaction": "none", "token_pooling": "block", "token_heads": 1}
# How often the classifier's first version drew from its source before its weights. A seed gives the
# same weights as ever.
_DRAWS_BEFORE_CLASSIFIER = 10


class Network(nnx.Module):
    """Images to embeddings or logits. Made by `create_network`.

    Called as `network(images)`, with images [B, H, W, 3] already normalised (see `preprocess`), it
    is deterministic. `key`, one or one an image, switches stochastic depth and dropout on. Of
    embeddings, the binary code is their sign, 0 counted as +1. The head is its `hash_head` or
    `head`; codes from vectors of features have a `feature_norm` before it.

    With `after`, the input is what a stage of the backbone gave, and the network goes on behind it.
    """

    def __init__(self, backbone: Backbone, head: Head):
        self.backbone = backbone
        self.head_name = head.attribute
        self.has_feature_norm = backbone.grid == 1 and head.attribute != "head"
        if self.has_feature_norm:
            self.feature_norm = FeatureNorm(backbone.width)
        setattr(self, head.attribute, head)

    @property
    def image_size(self) -> int:
        """Side of the images, in pixels; 0 where embeddings come in."""
        return self.backbone.image_size

    @property
    def own_head(self) -> Head:
        """The head, whatever its name."""
        return getattr(self, self.head_name)

    def __call__(
        self,
        x: Float[Array, "B ..."],
        *,
        key: Key[Array, "..."] | None = None,
        after: str | None = None,
    ) -> Float[Array, "B K"]:
        """Embeddings or logits in float32."""
        return self.stages(x, key=key, after=after)["embeddings"]

    def stages(
        self,
        x: Float[Array, "B ..."],
        *,
        key: Key[Array, "..."] | None = None,
        after: str | None = None,
    ) -> dict[str, jax.Array]:
        """Every stage's output by name, in order.

        Those of the backbone; hash_conv (HybridHash's map before the mean over space); embeddings,
        which of a classifier are logits.
        """
        out = self.backbone.stages(x, key, after)
        features = out["features"]
        if self.has_feature_norm:
            features = call(self.feature_norm, "none", features)
        own = (key,) if self.own_head.has_dropout and key is not None else ()
        outputs, before_mean = call(self.own_head, "none", features, *own)
        if before_mean is not None:
            out["hash_conv"] = before_mean
        return out | {"embeddings": outputs}


def create_network(
    variant: str | None = None,
    *,
    head: str = "hybridhash",
    head_kind: str | None = None,
    head_width: int = 512,
    head_dropout: float = 0.0,
    outputs: int,
    rngs: nnx.Rngs,
    initializer: str | None = None,
    **overrides: Any,
) -> Network:
    """The named variant with a head, its parameters drawn.

    Args:
      variant: a key of `VARIANTS`; None is NesT with the sizes of `overrides` alone.
      head: a key of `HEADS`. A classifier of NesT has the plain backbone, whatever `overrides` say
        of interaction and block tokens, and pads as published weights do unless told otherwise.
      head_kind, head_width, head_dropout: "linear" or "hidden" in place of HybridHash's own or a
        linear head, see `heads.create_head`.
      outputs: code length K, or classes.
      rngs: where the initial parameters are drawn from.
      initializer: "fan_in", which None stands for, or "normal" (0.02, the authors').
      **overrides: arguments of the backbone that replace the variant's; None keeps the variant's.
        NesT's, at their default values, are left out for other backbones.
    """
    initializer = initializer or "fan_in"
    check_choices(initializer=initializer, **({} if variant is None else {"variant": variant}))
    if outputs < 1:
        raise ValueError(f"outputs={outputs}; a code has at least 1 bit, a classifier 1 class")
    given = {name: value for name, value in overrides.items() if value is not None}
    backbone = _create_backbone(variant, given, head == "classifier", rngs)
    if head == "classifier" and isinstance(backbone, NestBackbone):
        for _ in range(_DRAWS_BEFORE_CLASSIFIER):
            rngs.params()
    own = create_head(
        backbone, head, head_kind, outputs, rngs=rngs, hidden=head_width, dropout=head_dropout
    )
    network = Network(backbone, own)
    initialize(network, initializer, rngs.params())
    return network


def _create_backbone(
    variant: str | None, given: Mapping[str, Any], classifies: bool, rngs: nnx.Rngs
) -> Backbone:
    sizes: Mapping[str, Any] = {} if variant is None else VARIANTS[variant]
    if variant in EFFICIENTNET_LITE:
        return EfficientNetLite(**_own(EfficientNetLite, variant, {**sizes, **given}))
    given = dict(given)
    if given.pop("batch_norm", "frozen") != "frozen":
        raise ValueError(
            f"batch_norm='batch': {variant or 'NesT'} has no batch norm; leave it out, or use one of "
            f"{', '.join(EFFICIENTNET_LITE)}"
        )
    if variant == GIVEN:
        if "width" not in given:
            raise ValueError(f"{GIVEN} needs width=, how many numbers a vector has")
        return GivenEmbeddings(**_own(GivenEmbeddings, variant, given))
    sizes = {**sizes, **given}
    if classifies:
        sizes = {"pool_padding": "same", **sizes, **_PLAIN_NEST}
    return NestBackbone(rngs=rngs, **sizes)


def _own(backbone: type, variant: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Without NesT's arguments at their defaults; a ValueError for another that is not the own."""
    known = dict(inspect.signature(backbone.__init__).parameters)
    del known["self"]
    usual = inspect.signature(NestBackbone.__init__).parameters
    others = {name: value for name, value in given.items() if name not in known}
    changed = [
        f"{name}={value!r}"
        for name, value in others.items()
        if name not in usual or value != usual[name].default
    ]
    if changed:
        raise ValueError(
            f"{', '.join(changed)}: {variant} has no such option; of NesT's it takes "
            f"{', '.join(name for name in known if name in usual) or 'none'}"
        )
    return {name: value for name, value in given.items() if name in known}


def forward_flops(network: Network) -> int:
    """Operations of one image's forward pass: 2 a multiply-add, products and convolutions only.

    Normalisations, activations and pooling, under 1 % of the whole, are not counted. `network` may
    be abstract (from `nnx.eval_shape`).
    """
    backbone = network.backbone
    return 2 * (backbone.multiply_adds() + network.own_head.multiply_adds(backbone.grid))
