"""Networks by name, and how to build one."""

from collections.abc import Mapping
from typing import Any

from flax import nnx

from hybridhash_jax.models.classifier import NestClassifier
from hybridhash_jax.models.hybridhash import HybridHash

_NEST_SMALL_WIDTHS = {"embed_dims": (96, 192, 384), "num_heads": (3, 6, 12)}
_NEST_BASE_WIDTHS = {"embed_dims": (128, 256, 512), "num_heads": (4, 8, 16)}
_ONLY_HYBRIDHASH = ("token_heads", "token_layout", "token_pooling", "interaction")
_AT_224 = {"image_size": 224, "patch_size": 4}
_AT_32 = {"image_size": 32, "patch_size": 1}

# Sizes of each variant: arguments of HybridHash. Stochastic depth as their papers train them.
VARIANTS: dict[str, dict[str, Any]] = {
    # The published HybridHash: NesT-B with 15 of its 20 last layers.
    "paper": _AT_224 | _NEST_BASE_WIDTHS | {"depths": (2, 2, 15), "drop_path_rate": 0.5},
    "nest_base": _AT_224 | _NEST_BASE_WIDTHS | {"depths": (2, 2, 20), "drop_path_rate": 0.5},
    "nest_small": _AT_224 | _NEST_SMALL_WIDTHS | {"depths": (2, 2, 20), "drop_path_rate": 0.3},
    "nest_tiny": _AT_224 | _NEST_SMALL_WIDTHS | {"depths": (2, 2, 8), "drop_path_rate": 0.2},
    # For 32-pixel images: one an accelerator trains in minutes, one that a CPU can.
    "small_32px": _AT_32
    | {
        "embed_dims": (96, 192, 384),
        "num_heads": (3, 6, 12),
        "depths": (2, 2, 6),
        "drop_path_rate": 0.1,
    },
    "tiny_32px": _AT_32
    | {
        "embed_dims": (32, 64, 128),
        "num_heads": (1, 2, 4),
        "depths": (1, 1, 2),
        "drop_path_rate": 0.0,
    },
    # For the demo: 16-pixel digits on two CPU cores.
    "demo_16px": {
        "image_size": 16,
        "patch_size": 2,
        "embed_dims": (48, 64, 96),
        "num_heads": (2, 2, 3),
        "depths": (1, 1, 2),
        "drop_path_rate": 0.0,
    },
}


def create_model(variant: str, *, bits: int, rngs: nnx.Rngs, **overrides: Any) -> HybridHash:
    """The named variant at a code length.

    Args:
      variant: a key of `VARIANTS`.
      bits: code length K.
      rngs: where the initial parameters are drawn from.
      **overrides: arguments of `HybridHash` that replace the variant's; None keeps the variant's.

    Raises:
      ValueError: an unknown variant or an impossible size.
    """
    return HybridHash(bits=bits, rngs=rngs, **_sizes(variant, overrides))


def create_classifier(
    variant: str, *, num_classes: int, rngs: nnx.Rngs, **overrides: Any
) -> NestClassifier:
    """The backbone of the named variant as a classifier, to be trained before it hashes.

    Args:
      variant: a key of `VARIANTS`.
      num_classes: outputs.
      rngs: where the initial parameters are drawn from.
      **overrides: as for `create_model`; options that only HybridHash has mean nothing here.

    Raises:
      ValueError: an unknown variant or an impossible size.
    """
    sizes = _sizes(variant, overrides)
    given = {name: value for name, value in sizes.items() if name not in _ONLY_HYBRIDHASH}
    return NestClassifier(num_classes, rngs=rngs, **given)


def _sizes(variant: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r} is unknown; accepted: {', '.join(VARIANTS)}")
    given = {name: value for name, value in overrides.items() if value is not None}
    return VARIANTS[variant] | given


def create_network(variant: str, *, head: str, outputs: int, rngs: nnx.Rngs, **overrides: Any):
    """The named variant with a head."""
    if head == "classifier":
        return create_classifier(variant, num_classes=outputs, rngs=rngs, **overrides)
    return create_model(variant, bits=outputs, rngs=rngs, **overrides)
