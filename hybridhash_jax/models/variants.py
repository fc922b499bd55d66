"""The sizes of networks by name."""

from typing import Any

_NEST_SMALL_WIDTHS = {"embed_dims": (96, 192, 384), "num_heads": (3, 6, 12)}
_NEST_BASE_WIDTHS = {"embed_dims": (128, 256, 512), "num_heads": (4, 8, 16)}
_AT_224 = {"image_size": 224, "patch_size": 4}
_AT_32 = {"image_size": 32, "patch_size": 1}

# Sizes of each variant: arguments of its backbone. Stochastic depth as their papers train them.
NEST: dict[str, dict[str, Any]] = {
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
EFFICIENTNET_LITE: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {"image_size": 224, "width": 1.0, "depth": 1.0, "drop_path_rate": 0.2},
    "efficientnet_lite1": {"image_size": 240, "width": 1.0, "depth": 1.1, "drop_path_rate": 0.2},
    "efficientnet_lite2": {"image_size": 260, "width": 1.1, "depth": 1.2, "drop_path_rate": 0.2},
}
GIVEN = "embeddings"  # the head alone, on vectors of another model
VARIANTS = NEST | EFFICIENTNET_LITE | {GIVEN: {}}
