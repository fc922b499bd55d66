"""Fits weights to a network: what is taken, transformed, drawn anew and left out, and why.

Every entry of the file and every parameter of the network ends up in exactly one row.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from hybridhash_jax.parameters import check_patterns, matches
from hybridhash_jax.pretrained import positions
from hybridhash_jax.pretrained.account import LEFT_OUT, LOADED, NEW, TRANSFORMED, Row, grouped_lines
from hybridhash_jax.pretrained.errors import IncompatibleWeightsError
from hybridhash_jax.pretrained.names import layouts
from hybridhash_jax.pretrained.network import OUTPUTS, Target, looks_like, shapes_of, sizes_of
from hybridhash_jax.pretrained.sources import Source

_UNEXPLAINED = "unexplained"


class Fitted(NamedTuple):
    """One row for each entry and parameter; arrays, float32, for the parameters that are filled."""

    rows: list[Row]
    arrays: dict[str, np.ndarray]


def fit(source: Source, target: Target, allow_missing: Sequence[str] = ()) -> Fitted:
    """Fits `source`, what was read, to `target`, what is to be filled.

    What the regular expressions `allow_missing` find in the file's names and our parameter paths may
    stay unexplained: such parameters keep their initial values, such entries are left out.

    Raises:
      IncompatibleWeightsError: all that is unexplained, with the variant the file looks like.
    """
    arrays = {}
    rows = [Row(LEFT_OUT, name, reason) for name, reason in source.unused.items()]
    rows += [
        Row(_UNEXPLAINED, name, "nothing this program knows", f"{shape} in the file")
        for name, shape in source.unknown.items()
    ]
    # Two kinds of hash head have paths in common, which mean different things.
    other_head = _other_hash_head(source, target)
    shared = {
        path
        for path in source.arrays
        if path in target.shapes and not (other_head and path.startswith("hash_head/"))
    }
    for path in source.arrays:
        if path not in shared:
            rows.append(_without_place(path, source, target))
            continue
        row, array = _place(path, source, target)
        rows.append(row)
        if array is not None:
            arrays[path] = np.asarray(array, np.float32)
    rows += [_drawn(path, source, target) for path in target.shapes if path not in shared]
    return Fitted(_allow(rows, source, target, allow_missing), arrays)


def _place(path: str, source: Source, target: Target) -> tuple[Row, np.ndarray | None]:
    """The row of a parameter that both have, and its value if it has one."""
    array, shape = source.arrays[path], target.shapes[path]
    # ml_dtypes' half precision is of kind V for NumPy.
    if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
        return Row(_UNEXPLAINED, path, f"{array.dtype} in the file is no weight"), None
    if not np.isfinite(array).all():
        return Row(_UNEXPLAINED, path, "holds infinities or NaN in the file"), None
    module = next((m for m in target.heads if path.startswith(m + "/")), "")
    heads = target.heads.get(module, 1)
    there = source.heads.get(module, heads)
    if there != heads:
        return Row(_UNEXPLAINED, path, f"made for {there} heads, here there are {heads}"), None
    if array.shape != shape:
        return _transform(path, array, target)
    if source.heads_fastest and path == f"{module}/proj/kernel":
        array = layouts.heads_slowest(array, heads)
    return Row(LOADED, path), array


def _transform(path: str, array: np.ndarray, target: Target) -> tuple[Row, np.ndarray | None]:
    """The row of a parameter of another shape than the file's, and its value if it has one."""
    shape = target.shapes[path]
    words = f"{array.shape} in the file, {shape} here"
    if path.endswith("/position_embedding"):
        resized = positions.resize_levels(array, shape)
        # In the reference layout a token is no place in the image, so there is no map to resize.
        if "token_attention" in path and target.options.get("token_layout") == "spatial":
            resized = positions.resize_tokens(array, shape)
        if resized is not None:
            return Row(TRANSFORMED, path, "resized bicubically", words), resized
    what = OUTPUTS.get(path.rpartition("/")[0])
    if what and array.ndim == len(shape) and array.shape[:-1] == shape[:-1]:
        return Row(NEW, path, f"{array.shape[-1]} {what} in the file, {shape[-1]} here"), None
    if path.startswith("method/"):
        return Row(NEW, path, f"of other classes or bits: {words}"), None
    return Row(_UNEXPLAINED, path, "of another shape", words), None


def _without_place(path: str, source: Source, target: Target) -> Row:
    """The row of an entry whose parameter this network lacks."""
    name, part, parts = source.names[path], path.split("/")[0], _parts(target.shapes)
    if part == "head" and "hash_head" in parts:
        return Row(LEFT_OUT, name, "classification head")
    if part in ("hash_head", "feature_norm") and "head" in parts:
        return Row(LEFT_OUT, name, "hash head; this network classifies")
    if part == "feature_norm" and "hash_head" in parts:
        return Row(LEFT_OUT, name, "of a head on vectors of features")
    if part == "hash_head" and _other_hash_head(source, target):
        return Row(LEFT_OUT, name, "hash head of another kind")
    if part == "method":
        return Row(LEFT_OUT, name, "of another method")
    ours = sizes_of(target.shapes)
    layer = re.match(r"levels/(\d+)/layers/(\d+)/", path)
    if ours and layer and int(layer[1]) == len(ours.depths) - 1:
        kept = ours.depths[-1]
        if int(layer[2]) >= kept:
            level = re.compile(rf"levels/{layer[1]}/layers/(\d+)/")
            theirs = 1 + max(int(m[1]) for m in map(level.match, source.arrays) if m)
            return Row(LEFT_OUT, name, f"depth cut of the last level: {theirs} -> {kept} layers")
    shape = source.arrays[path].shape
    return Row(_UNEXPLAINED, name, "not in this network", f"{shape} in the file, would be {path}")


def _other_hash_head(source: Source, target: Target) -> bool:
    """Are their hash heads of two kinds: HybridHash's, linear, with a hidden layer, with a norm?"""
    theirs, ours = (
        {name for name in _TELLING if f"hash_head/{name}" in paths}
        for paths in (source.arrays, target.shapes)
    )
    return theirs != ours


# What tells one kind of hash head from another.
_TELLING = (
    "kernel",
    "fc1/kernel",
    "units/kernel",
    "inner/kernel",
    "inner/fc1/kernel",
    "norm/running_mean",
)


def _parts(paths: Iterable[str]) -> set[str]:
    return {path.split("/")[0] for path in paths}


def _drawn(path: str, source: Source, target: Target) -> Row:
    """The row of a parameter that the file does not have at all."""
    plain = not any("/interaction/global_branch/" in other for other in source.arrays)
    part, parts = path.split("/")[0], _parts(source.arrays)
    if "/interaction/global_branch/" in path and plain:
        return Row(NEW, path, "plain NesT has no global branch")
    if part == "hash_head" and plain and "hash_head" not in parts:
        whose = "the file" if "blocks" in parts else "plain NesT"
        return Row(NEW, path, f"{whose} has no hash head")
    if part == "method":
        return Row(NEW, path, "what the method trains beside the network")
    if part == "feature_norm":
        return Row(NEW, path, "taken from the training images")
    if part == "hash_head" and "hash_head" in parts and _other_hash_head(source, target):
        return Row(NEW, path, "the file's hash head is of another kind")
    if part == "head" and "head" not in parts:
        return Row(NEW, path, "the file has no classification head")
    return Row(_UNEXPLAINED, path, "not in the file", f"{target.shapes[path]} here")


def _allow(rows: list[Row], source: Source, target: Target, patterns: Sequence[str]) -> list[Row]:
    """The rows with what is allowed explained; raises what is not."""
    known = [*target.shapes, *source.names.values(), *source.unknown]
    check_patterns("init.allow_missing", patterns, known, "name")
    result = []
    for row in rows:
        alias = source.names.get(row.name, row.name)
        if row.action == _UNEXPLAINED and matches(patterns, row.name, alias):
            action = NEW if row.name in target.shapes else LEFT_OUT
            row = Row(action, row.name, f"allowed by init.allow_missing: {row.reason}", row.detail)
        result.append(row)
    problems = [row for row in result if row.action == _UNEXPLAINED]
    if not problems:
        return result
    # What nothing is computed with may lie behind a star.
    among = [row.name for row in rows if row.name not in source.unused]
    among += source.names.values()
    lines = [f"  {line}" for line in grouped_lines(problems, among)]
    raise IncompatibleWeightsError(
        f"{source.path} ({source.kind}) does not match this network in {len(problems)} "
        f"place{'s' * (len(problems) > 1)}; nothing was loaded.\n"
        f"The file looks like {looks_like(shapes_of(source.arrays))}.\n"
        f"This network is {looks_like(target.shapes)}.\n"
        "Choose the variant of the file (--config.model.variant) or another file; what may keep "
        "its initial values or be left out all the same is named in --config.init.allow_missing.\n"
        + "\n".join(lines)
    )
