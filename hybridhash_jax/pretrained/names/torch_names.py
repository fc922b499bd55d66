"""Names of the authors' HybridHash and of timm's NesT in PyTorch, and ours (spec: checkpoints).

One table, a row a pattern, serves both directions. timm's names are the same but for the
classification head, and without what HybridHash adds.
"""

import re
from typing import NamedTuple

import numpy as np

from hybridhash_jax.pretrained.names.layouts import CONV, KEEP, LINEAR, POINTWISE, Layout

# A linear layer that the authors' code creates and never uses.
UNUSED = re.compile(r"FcLayer\.(weight|bias)")
# What only HybridHash has; all else is plain NesT.
_OF_HYBRIDHASH = re.compile(r"hashlayer_train\.|FcLayer\.|.*\.(conv_glo|global_attention)\.")


class _Row(NamedTuple):
    theirs: str  # {i} is the level, {j} the layer in it
    ours: str
    layout: Layout


def _layer(theirs: str, ours: str, layout: Layout, *, bias: bool = True) -> list[_Row]:
    """The rows of one layer: its weight and, where it has one, its bias."""
    rows = [_Row(theirs + ".weight", ours + "/kernel", layout)]
    return rows + ([_Row(theirs + ".bias", ours + "/bias", KEEP)] if bias else [])


def _norm(theirs: str, ours: str) -> list[_Row]:
    return [
        _Row(theirs + ".weight", ours + "/scale", KEEP),
        _Row(theirs + ".bias", ours + "/bias", KEEP),
    ]


def _token_attention(theirs: str, ours: str) -> list[_Row]:
    return [
        _Row(theirs + ".pos_embed_glo", ours + "/position_embedding", KEEP),
        *_layer(theirs + ".qkv", ours + "/attention/qkv", LINEAR, bias=False),
        *_layer(theirs + ".proj", ours + "/attention/proj", LINEAR),
    ]


_ENCODER, _LAYERS = "levels.{i}.transformer_encoder.{j}", "levels/{i}/layers/{j}"
_POOL, _INTERACTION = "levels.{i}.pool", "levels/{i}/interaction"
_TABLE = [
    *_layer("patch_embed.proj", "patch_embed", CONV),
    _Row("levels.{i}.pos_embed", "levels/{i}/position_embedding", KEEP),
    *_norm(_ENCODER + ".norm1", _LAYERS + "/norm1"),
    *_norm(_ENCODER + ".norm2", _LAYERS + "/norm2"),
    *_layer(_ENCODER + ".attn.qkv", _LAYERS + "/attention/qkv", LINEAR),
    *_layer(_ENCODER + ".attn.proj", _LAYERS + "/attention/proj", LINEAR),
    *_layer(_ENCODER + ".mlp.fc1", _LAYERS + "/mlp/fc1", LINEAR),
    *_layer(_ENCODER + ".mlp.fc2", _LAYERS + "/mlp/fc2", LINEAR),
    *_layer(_POOL + ".conv", _INTERACTION + "/conv", CONV),
    *_norm(_POOL + ".norm", _INTERACTION + "/norm"),
    *_layer(_POOL + ".conv_glo", _INTERACTION + "/global_branch/conv", POINTWISE, bias=False),
    *_token_attention(_POOL + ".global_attention", _INTERACTION + "/global_branch/token_attention"),
    *_norm("norm", "norm"),
    *_layer("head", "head", LINEAR),
    *_layer("hashlayer_train.convS1", "hash_head/conv_1x3", CONV),
    *_layer("hashlayer_train.convS2", "hash_head/conv_3x1", CONV),
    *_layer("hashlayer_train.conv2", "hash_head/to_bits", POINTWISE),
    *_token_attention(
        "hashlayer_train.global_attention", "hash_head/global_branch/token_attention"
    ),
]


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template)
    return re.compile(re.sub(r"\\\{([ij])\\\}", r"(?P<\1>\\d+)", escaped))


_FROM_THEIRS = [(_pattern(row.theirs), row) for row in _TABLE]
_FROM_OURS = [(_pattern(row.ours), row) for row in _TABLE]


def to_ours(name: str, array: np.ndarray) -> tuple[str, np.ndarray] | None:
    """(our path, the array in our axes), or None for a name that no row has.

    The rows of an attention's projection stay as they are: see `layouts.heads_slowest`.
    """
    for pattern, row in _FROM_THEIRS:
        if match := pattern.fullmatch(name):
            return row.ours.format(**match.groupdict()), row.layout.to_ours(array)
    return None


def to_theirs(path: str, array: np.ndarray) -> tuple[str, np.ndarray] | None:
    """(their name, the array in PyTorch's axes): the inverse of `to_ours`."""
    for pattern, row in _FROM_OURS:
        if match := pattern.fullmatch(path):
            return row.theirs.format(**match.groupdict()), row.layout.to_torch(array)
    return None


def is_of_hybridhash(name: str) -> bool:
    """Is it an entry that plain NesT does not have?"""
    return _OF_HYBRIDHASH.match(name) is not None
