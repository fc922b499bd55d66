"""Floating-point operations of a forward pass, counted from the architecture."""

import math

from flax import nnx

from hybridhash_jax.models.classifier import NestClassifier
from hybridhash_jax.models.hybridhash import HybridHash


def forward_flops(model: HybridHash | NestClassifier) -> int:
    """Operations of one image's forward pass: 2 a multiply-add, products and convolutions only.

    Normalisations, activations and pooling, under 1 % of the whole, are not counted. `model` may
    be abstract (from `nnx.eval_shape`).
    """
    side = model.levels[0].block_side
    grid = side * 2 ** (len(model.levels) - 1)
    macs = grid**2 * _weights(model.patch_embed)
    for level in model.levels:
        if (module := level.interaction) is not None:
            macs += grid**2 * _weights(module.conv)
            if module.global_branch is not None:
                macs += _global_branch_macs(module.global_branch, grid)
            grid //= 2
        for layer in level.layers:
            macs += grid**2 * (_weights(layer.mlp.fc1) + _weights(layer.mlp.fc2))
            macs += _attention_macs(layer.attention, groups=(grid // side) ** 2, tokens=side**2)
    if isinstance(model, NestClassifier):
        return 2 * (macs + _weights(model.head))
    head = model.hash_head
    macs += grid**2 * (_weights(head.conv_1x3) + _weights(head.conv_3x1))
    macs += math.ceil(grid / 2) ** 2 * _weights(head.to_bits)
    return 2 * (macs + _global_branch_macs(head.global_branch, grid))


def _weights(module: nnx.Linear | nnx.Conv) -> int:
    return math.prod(module.kernel.shape)


def _attention_macs(attention, groups: int, tokens: int) -> int:
    products = 2 * tokens * attention.proj.kernel.shape[0]  # scores, and their weighted sum
    return groups * tokens * (_weights(attention.qkv) + _weights(attention.proj) + products)


def _global_branch_macs(branch, grid: int) -> int:
    tokens = (grid // branch.pool_kernel) ** 2
    macs = _attention_macs(branch.token_attention.attention, groups=1, tokens=tokens)
    return macs + (tokens * _weights(branch.conv) if branch.conv is not None else 0)
