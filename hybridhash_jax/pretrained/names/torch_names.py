"""Names of the authors' HybridHash and of timm's NesT in PyTorch, and ours (spec: checkpoints).

One table, a row a pattern, serves both directions. timm's names are the same but for the
classification head, and without what HybridHash adds.
"""

import re

from hybridhash_jax.pretrained.names.layouts import CONV, KEEP, LINEAR, POINTWISE
from hybridhash_jax.pretrained.names.table import Row, Table, layer, norm

# A linear layer that the authors' code creates and never uses.
UNUSED = re.compile(r"FcLayer\.(weight|bias)")
# What only HybridHash has; all else is plain NesT.
_OF_HYBRIDHASH = re.compile(r"hashlayer_train\.|FcLayer\.|.*\.(conv_glo|global_attention)\.")


def _token_attention(theirs: str, ours: str) -> list[Row]:
    return [
        Row(theirs + ".pos_embed_glo", ours + "/position_embedding", KEEP),
        *layer(theirs + ".qkv", ours + "/attention/qkv", LINEAR, bias=False),
        *layer(theirs + ".proj", ours + "/attention/proj", LINEAR),
    ]


_ENCODER, _LAYERS = "levels.{i}.transformer_encoder.{j}", "levels/{i}/layers/{j}"
_POOL, _INTERACTION = "levels.{i}.pool", "levels/{i}/interaction"
# The rows of an attention's projection stay as they are: see `layouts.heads_slowest`.
TABLE = Table(
    [
        *layer("patch_embed.proj", "patch_embed", CONV),
        Row("levels.{i}.pos_embed", "levels/{i}/position_embedding", KEEP),
        *norm(_ENCODER + ".norm1", _LAYERS + "/norm1"),
        *norm(_ENCODER + ".norm2", _LAYERS + "/norm2"),
        *layer(_ENCODER + ".attn.qkv", _LAYERS + "/attention/qkv", LINEAR),
        *layer(_ENCODER + ".attn.proj", _LAYERS + "/attention/proj", LINEAR),
        *layer(_ENCODER + ".mlp.fc1", _LAYERS + "/mlp/fc1", LINEAR),
        *layer(_ENCODER + ".mlp.fc2", _LAYERS + "/mlp/fc2", LINEAR),
        *layer(_POOL + ".conv", _INTERACTION + "/conv", CONV),
        *norm(_POOL + ".norm", _INTERACTION + "/norm"),
        *layer(_POOL + ".conv_glo", _INTERACTION + "/global_branch/conv", POINTWISE, bias=False),
        *_token_attention(
            _POOL + ".global_attention", _INTERACTION + "/global_branch/token_attention"
        ),
        *norm("norm", "norm"),
        *layer("head", "head", LINEAR),
        *layer("hashlayer_train.convS1", "hash_head/conv_1x3", CONV),
        *layer("hashlayer_train.convS2", "hash_head/conv_3x1", CONV),
        *layer("hashlayer_train.conv2", "hash_head/to_bits", POINTWISE),
        *_token_attention(
            "hashlayer_train.global_attention", "hash_head/global_branch/token_attention"
        ),
    ]
)


def is_of_hybridhash(name: str) -> bool:
    """Is it an entry that plain NesT does not have?"""
    return _OF_HYBRIDHASH.match(name) is not None
