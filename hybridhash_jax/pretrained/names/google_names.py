"""Names of Google's NesT in Flax Linen, and ours (spec: checkpoints).

Their encoder blocks are numbered through all levels, and a block's attention keeps the queries
apart from keys and values, which are joined head by head.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hybridhash_jax.pretrained.errors import WeightFileError

# Modules that hold the same arrays under both names.
_OF_NETWORK = {"PatchEmbedding_0/Conv_0": "patch_embed", "LayerNorm_0": "norm", "Dense_0": "head"}
_OF_POOL = {"Conv_0": "conv", "LayerNorm_0": "norm"}
_OF_BLOCK = {"LayerNorm_0": "norm1", "LayerNorm_1": "norm2"}
_OF_BLOCK |= {"MlpBlock_0/Dense_0": "mlp/fc1", "MlpBlock_0/Dense_1": "mlp/fc2"}


class Converted(NamedTuple):
    """Google's parameters, their names in the file, and heads of attention modules, by our paths."""

    arrays: dict[str, np.ndarray]
    names: dict[str, str]
    heads: dict[str, int]
    unknown: list[str]  # names that have no counterpart


def to_ours(theirs: Mapping[str, np.ndarray]) -> Converted:
    """Converts Google's parameters, names joined by slashes; what is no NesT: WeightFileError."""
    levels = _levels_of_blocks(theirs)
    counterparts = _counterparts(levels)
    found = Converted({}, {}, {}, [])
    joined = set()
    for block, attention in _attentions(levels).items():
        joined |= _join_attention(theirs, block, attention, found)
    for name, array in theirs.items():
        if name in joined:
            continue
        module, _, leaf = name.rpartition("/")
        if position := re.fullmatch(r"PositionEmbedding_(\d+)/pos_embedding", name):
            path = f"levels/{position[1]}/position_embedding"
        elif module in counterparts:
            path = f"{counterparts[module]}/{leaf}"
        else:
            found.unknown.append(name)
            continue
        found.arrays[path], found.names[path] = array, name
    return found


def to_theirs(
    ours: Mapping[str, np.ndarray], heads: Mapping[str, int]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The inverse of `to_ours`: (Google's parameters, our paths that have no place there)."""
    layers = {m[0] for m in map(re.compile(r"levels/(\d+)/layers/(\d+)").match, ours) if m}
    order = sorted((int(m[1]), int(m[3])) for m in (path.split("/") for path in layers))
    levels = [level for level, _ in order]
    modules = {ours: theirs for theirs, ours in _counterparts(levels).items()}
    blocks = {attention: block for block, attention in _attentions(levels).items()}
    theirs, homeless = {}, []
    for path, array in ours.items():
        module, _, leaf = path.rpartition("/")
        owner, _, part = module.rpartition("/")
        if position := re.fullmatch(r"levels/(\d+)/position_embedding", path):
            theirs[f"PositionEmbedding_{position[1]}/pos_embedding"] = array
        elif owner in blocks:
            theirs |= _split_attention(blocks[owner], part, leaf, array, heads[owner])
        elif module in modules:
            theirs[f"{modules[module]}/{leaf}"] = array
        else:
            homeless.append(path)
    return theirs, homeless


def _levels_of_blocks(theirs: Mapping[str, np.ndarray]) -> list[int]:
    """The level of each encoder block, found by its width."""
    if foreign := next((name for name in theirs if "MultiQueryAttention" in name), None):
        raise WeightFileError(
            f"it has {foreign}: one of Google's networks for 32-pixel images, whose heads share "
            "keys and values. That attention is not supported; take one of the networks for "
            "224-pixel images (nest-t, nest-s, nest-b)."
        )
    widths: dict[tuple[int, ...], int | None] = {}
    for name, array in theirs.items():
        if match := re.fullmatch(r"PositionEmbedding_(\d+)/pos_embedding", name):
            width = array.shape[-1:]  # of two levels alike, neither can be told
            widths[width] = None if width in widths else int(match[1])
    scales = {}
    for name, array in theirs.items():
        if match := re.fullmatch(r"EncoderNDBlock_(\d+)/LayerNorm_0/scale", name):
            scales[int(match[1])] = array.shape
    levels = [widths.get(scales.get(n, ())) for n in range(len(scales))]
    found = [level for level in levels if level is not None]
    if not found or len(found) < len(levels) or found != sorted(found):
        raise WeightFileError(
            "its encoder blocks and position embeddings do not make a NesT: blocks of the widths "
            f"{[scales[n][0] for n in sorted(scales)]}, embeddings of "
            f"{[width[0] for width in widths if width]}."
        )
    return found


def _counterparts(levels: Sequence[int]) -> dict[str, str]:
    """Google's modules and ours, for a network whose blocks are in these levels."""
    pairs = dict(_OF_NETWORK)
    for i in range(1, max(levels, default=0) + 1):
        for theirs, ours in _OF_POOL.items():
            pairs[f"ConvPool_{i - 1}/{theirs}"] = f"levels/{i}/interaction/{ours}"
    for n, layer in enumerate(_layers(levels)):
        for theirs, ours in _OF_BLOCK.items():
            pairs[f"EncoderNDBlock_{n}/{theirs}"] = f"{layer}/{ours}"
    return pairs


def _attentions(levels: Sequence[int]) -> dict[str, str]:
    return {
        f"EncoderNDBlock_{n}/MultiHeadAttention_0": f"{layer}/attention"
        for n, layer in enumerate(_layers(levels))
    }


def _layers(levels: Sequence[int]) -> list[str]:
    return [f"levels/{level}/layers/{n - levels.index(level)}" for n, level in enumerate(levels)]


def _join_attention(
    theirs: Mapping[str, np.ndarray], block: str, attention: str, found: Converted
) -> set[str]:
    """Converts what is there of one attention; returns the names that it used."""
    used = set()
    for leaf in ("kernel", "bias"):
        names = [f"{block}/DenseGeneral_{k}/{leaf}" for k in (0, 1)]
        queries, both = (theirs.get(name) for name in names)
        if queries is None or both is None or queries.shape[:-1] != both.shape[:-1]:
            continue
        keys, values = np.split(both, 2, axis=-1)
        parts = [x.reshape(*x.shape[:-2], -1) for x in (queries, keys, values)]
        path = f"{attention}/qkv/{leaf}"
        found.arrays[path] = np.concatenate(parts, axis=-1)
        found.names[path] = f"{block}/DenseGeneral_{{0,1}}/{leaf}"
        found.heads[attention] = queries.shape[-2]
        used |= set(names)
    for leaf, name in (("kernel", f"{block}/proj_kernel"), ("bias", f"{block}/bias")):
        if name in theirs:
            path = f"{attention}/proj/{leaf}"
            array = theirs[name]
            found.arrays[path] = array.reshape(-1, array.shape[-1]) if leaf == "kernel" else array
            found.names[path] = name
            used.add(name)
    return used


def _split_attention(
    block: str, part: str, leaf: str, array: np.ndarray, heads: int
) -> dict[str, np.ndarray]:
    """The inverse of `_join_attention`, for one of our arrays."""
    if part == "proj":
        if leaf == "bias":
            return {f"{block}/bias": array}
        return {f"{block}/proj_kernel": array.reshape(heads, -1, array.shape[-1])}
    by_head = array.reshape(*array.shape[:-1], 3, heads, -1)
    queries, keys, values = np.moveaxis(by_head, -3, 0)
    return {
        f"{block}/DenseGeneral_0/{leaf}": queries,
        f"{block}/DenseGeneral_1/{leaf}": np.concatenate([keys, values], axis=-1),
    }
