"""Fits weights to a network: what is taken, transformed, drawn anew and left out, and why.

Every entry of the file and every parameter of the network ends up in exactly one row. What no rule
explains is collected and raised in one error.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hybridhash_jax.pretrained import positions
from hybridhash_jax.pretrained.errors import IncompatibleWeightsError
from hybridhash_jax.pretrained.names import layouts
from hybridhash_jax.pretrained.network import Network, looks_like, sizes_of
from hybridhash_jax.pretrained.patterns import check_patterns, matches
from hybridhash_jax.pretrained.sources import Source
from hybridhash_jax.pretrained.table import group

LOADED, TRANSFORMED, NEW, LEFT_OUT = ("loaded", "transformed", "newly initialised", "left out")
ACTIONS = (LOADED, TRANSFORMED, NEW, LEFT_OUT)
_UNEXPLAINED = "unexplained"
_LAST_AXIS_IS_OURS = {"hash_head/to_bits": "bits", "head": "classes"}


class Row(NamedTuple):
    """What became of one entry of the file (left out) or one parameter (all else), and why."""

    action: str
    name: str
    reason: str = ""
    detail: str = ""  # what differs between rows of one reason, such as shapes


class Fitted(NamedTuple):
    """Attributes:
    rows: one for each entry and parameter. arrays: float32, for the parameters that are filled.
    """

    rows: list[Row]
    arrays: dict[str, np.ndarray]


def fit(source: Source, network: Network, allow_missing: Sequence[str] = ()) -> Fitted:
    """Fits `source` to `network`.

    Args:
      allow_missing: regular expressions, searched in the file's names and our parameter paths;
        what they match may stay unexplained: such parameters keep their initial values, such
        entries are left out.

    Raises:
      IncompatibleWeightsError: all that is unexplained, with the variant the file looks like.
    """
    rows, arrays = [], {}
    rows += [Row(LEFT_OUT, name, reason) for name, reason in source.unused.items()]
    rows += [
        Row(_UNEXPLAINED, name, "nothing this program knows", f"{shape} in the file")
        for name, shape in source.unknown.items()
    ]
    for path in source.arrays:
        if path not in network.shapes:
            rows.append(_without_place(path, source, network))
            continue
        row, array = _place(path, source, network)
        rows.append(row)
        if array is not None:
            arrays[path] = np.asarray(array, np.float32)
    absent = [path for path in network.shapes if path not in source.arrays]
    rows += [_drawn(path, source, network) for path in absent]
    return Fitted(_allow(rows, source, network, allow_missing), arrays)


def _place(path: str, source: Source, network: Network) -> tuple[Row, np.ndarray | None]:
    """The row of a parameter that both have, and its value if it has one."""
    array, shape = source.arrays[path], network.shapes[path]
    # ml_dtypes' half precision is of kind V for NumPy.
    if not np.issubdtype(array.dtype, np.floating) and array.dtype.name != "bfloat16":
        return Row(_UNEXPLAINED, path, f"{array.dtype} in the file is no weight"), None
    if not np.isfinite(array).all():
        return Row(_UNEXPLAINED, path, "holds infinities or NaN in the file"), None
    module = next((m for m in network.heads if path.startswith(m + "/")), "")
    heads = network.heads.get(module, 1)
    if source.heads.get(module, heads) != heads:
        there = source.heads[module]
        return Row(_UNEXPLAINED, path, f"made for {there} heads, here there are {heads}"), None
    if array.shape != shape:
        return _transform(path, array, network)
    if source.heads_fastest and path == f"{module}/proj/kernel":
        array = layouts.heads_slowest(array, heads)
    return Row(LOADED, path), array


def _transform(path: str, array: np.ndarray, network: Network) -> tuple[Row, np.ndarray | None]:
    """The row of a parameter of another shape than the file's, and its value if it has one."""
    shape = network.shapes[path]
    words = f"{array.shape} in the file, {shape} here"
    if path.endswith("/position_embedding"):
        resized = positions.resize_levels(array, shape)
        # In the reference layout a token is no place in the image, so there is no map to resize.
        if "token_attention" in path and network.options.get("token_layout") == "spatial":
            resized = positions.resize_tokens(array, shape)
        if resized is not None:
            return Row(TRANSFORMED, path, "resized bicubically", words), resized
    what = _LAST_AXIS_IS_OURS.get(path.rpartition("/")[0])
    if what and array.ndim == len(shape) and array.shape[:-1] == shape[:-1]:
        return Row(NEW, path, f"{array.shape[-1]} {what} in the file, {shape[-1]} here"), None
    return Row(_UNEXPLAINED, path, "of another shape", words), None


def _without_place(path: str, source: Source, network: Network) -> Row:
    """The row of an entry whose parameter this network lacks."""
    name = source.names[path]
    if path.startswith("head/") and "hash_head/to_bits/kernel" in network.shapes:
        return Row(LEFT_OUT, name, "classification head")
    if path.startswith("hash_head/") and "head/kernel" in network.shapes:
        return Row(LEFT_OUT, name, "hash head; this network classifies")
    ours = sizes_of(network.shapes)
    layer = re.match(r"levels/(\d+)/layers/(\d+)/", path)
    if ours and layer and int(layer[1]) == len(ours.depths) - 1:
        theirs, kept = _depth(source, int(layer[1])), ours.depths[-1]
        if int(layer[2]) >= kept:
            return Row(LEFT_OUT, name, f"depth cut of the last level: {theirs} -> {kept} layers")
    shape = source.arrays[path].shape
    return Row(_UNEXPLAINED, name, "not in this network", f"{shape} in the file, would be {path}")


def _depth(source: Source, level: int) -> int:
    pattern = re.compile(rf"levels/{level}/layers/(\d+)/")
    return 1 + max(int(m[1]) for path in source.arrays if (m := pattern.match(path)))


def _drawn(path: str, source: Source, network: Network) -> Row:
    """The row of a parameter that the file does not have at all."""
    plain = not any("/interaction/global_branch/" in other for other in source.arrays)
    hashes = any(other.startswith("hash_head/") for other in source.arrays)
    classifies = any(other.startswith("head/") for other in source.arrays)
    if "/interaction/global_branch/" in path and plain:
        return Row(NEW, path, "plain NesT has no global branch")
    if path.startswith("hash_head/") and plain and not hashes:
        return Row(NEW, path, "plain NesT has no hash head")
    if path.startswith("head/") and not classifies:
        return Row(NEW, path, "the file has no classification head")
    return Row(_UNEXPLAINED, path, "not in the file", f"{network.shapes[path]} here")


def _allow(rows: list[Row], source: Source, network: Network, patterns: Sequence[str]) -> list[Row]:
    """The rows with what is allowed explained; raises what is not."""
    known = [*network.shapes, *source.names.values(), *source.unknown]
    check_patterns("init.allow_missing", patterns, known)
    result = []
    for row in rows:
        alias = source.names.get(row.name, row.name)
        if row.action == _UNEXPLAINED and matches(patterns, row.name, alias):
            action = NEW if row.name in network.shapes else LEFT_OUT
            reason = f"allowed by init.allow_missing: {row.reason}"
            row = row._replace(action=action, reason=reason)
        result.append(row)
    if any(row.action == _UNEXPLAINED for row in result):
        raise IncompatibleWeightsError(_describe_problems(result, source, network))
    return result


def _describe_problems(rows: Sequence[Row], source: Source, network: Network) -> str:
    problems = [row for row in rows if row.action == _UNEXPLAINED]
    among = [*(row.name for row in rows), *source.names.values()]
    lines = [f"  {line}" for line in grouped_lines(problems, among)]
    shapes: Mapping[str, tuple[int, ...]] = {p: a.shape for p, a in source.arrays.items()}
    return (
        f"{source.path} ({source.kind}) does not match this network in {len(problems)} "
        f"place{'s' * (len(problems) > 1)}; nothing was loaded.\n"
        f"The file looks like {looks_like(shapes)}.\n"
        f"This network is {looks_like(network.shapes)}.\n"
        "Choose the variant of the file (--config.model.variant) or another file; what may keep "
        "its initial values or be left out all the same is named in --config.init.allow_missing.\n"
        + "\n".join(lines)
    )


def grouped_lines(rows: Sequence[Row], among: Sequence[str]) -> list[str]:
    """One line for all rows of one reason that lie together, such as `levels/2/layers/{0..14}/*`.

    `among` are all names there are, of the file's entries and of the network's parameters.
    """
    lines = []
    for reason in dict.fromkeys(row.reason for row in rows):
        details = {row.name: row.detail for row in rows if row.reason == reason}
        for label, names in group(details, among).items():
            alike = {details[name] for name in names}
            detail = alike.pop() if len(alike) == 1 else ""
            why = ": ".join(part for part in (reason, detail) if part)
            arrays = f"{len(names)} array{'s' * (len(names) > 1)}"
            lines.append(f"{label} ({arrays})" + (f"; {why}" if why else ""))
    return sorted(lines, key=_natural_order)


def _natural_order(line: str) -> list[tuple[int, str]]:
    return [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", line)]
