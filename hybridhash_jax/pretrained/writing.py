"""Writes weights under PyTorch's names (authors', timm's) or Google's, bit for bit."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import safetensors.numpy

from hybridhash_jax.models.variants import NEST
from hybridhash_jax.parameters import check_patterns, matches
from hybridhash_jax.pretrained.account import group
from hybridhash_jax.pretrained.errors import IncompatibleWeightsError
from hybridhash_jax.pretrained.files import google_files
from hybridhash_jax.pretrained.names import efficientnet_names, google_names, layouts, torch_names
from hybridhash_jax.pretrained.network import (
    attention_modules,
    heads_by_module,
    looks_like,
    shapes_of,
    sizes_of,
)
from hybridhash_jax.pretrained.sources import Source

Arrays = Mapping[str, np.ndarray]


class Encoded(NamedTuple):
    """The bytes of a file; what its names are; names that were to be left out, and why."""

    data: bytes
    kind: str
    num_arrays: int
    left_out: dict[str, str]


def encode(
    source: Source,
    path: str | os.PathLike[str],
    *,
    num_heads: Sequence[int] = (),
    leave_out: Sequence[str] = (),
) -> Encoded:
    """The content of a file that holds `source` under other names, in the same precision.

    Args:
      source: what was read.
      path: its ending decides the format: .safetensors has PyTorch's names (the authors', or timm's
        for a plain NesT without a hash head), .flax has Google's.
      num_heads: attention heads of each level, where neither the source nor its widths tell.
      leave_out: regular expressions, searched in the source's names and our paths.

    Raises:
      IncompatibleWeightsError: entries that have no place in the other format; all are named.
      ValueError: an ending that is not known, or heads that are needed and not known.
    """
    ending = os.path.splitext(os.fspath(path))[1]
    if ending not in (".safetensors", ".flax"):
        raise ValueError(
            f"cannot write {os.fspath(path)}: the ending {ending!r} is none of "
            ".safetensors (PyTorch's names) and .flax (Google's)"
        )
    known = [*source.arrays, *source.names.values(), *source.unknown]
    check_patterns("--leave_out", leave_out, known, "name")
    left_out, kept, problems = dict(source.unused), {}, []
    for name in source.unknown:
        if matches(leave_out, name):
            left_out[name] = "as told"
        else:
            problems.append(name)
    for name, array in source.arrays.items():
        if matches(leave_out, name, source.names[name]):
            left_out[source.names[name]] = "as told"
        else:
            kept[name] = array
    heads = source.heads
    if ending == ".flax":
        kind = "Google NesT"
        # HybridHash's own branch has no place there, so its heads need not be known.
        plain = {path: array for path, array in kept.items() if "/global_branch/" not in path}
        heads = _all_heads(source, plain, num_heads)
        ordered = _reorder(plain, heads, layouts.heads_slowest) if source.heads_fastest else plain
        tensors, homeless = google_names.to_theirs(ordered, heads)
        homeless = [*homeless, *(path for path in kept if path not in plain)]
        data = google_files.write(tensors)
    else:
        if not source.heads_fastest:
            heads = _all_heads(source, kept, num_heads)
        ordered = kept if source.heads_fastest else _reorder(kept, heads, layouts.heads_fastest)
        tensors, homeless = _to_torch(ordered)
        hybrid = any(map(torch_names.is_of_hybridhash, tensors))
        kind = "HybridHash" if hybrid else "timm NesT"
        if "_conv_stem.weight" in tensors:
            kind = "EfficientNet-Lite"
        metadata = {"format": "pt", **source.options, **_heads_as_text(heads)}
        data = safetensors.numpy.save(tensors, metadata)
    if problems := problems + homeless:
        lines = [f"  {label} ({len(names)})" for label, names in group(problems, known).items()]
        raise IncompatibleWeightsError(
            f"{source.path} ({source.kind}) holds {len(problems)} arrays that have no place in "
            f"{os.fspath(path)} ({kind}); nothing was written. Name what to leave out with "
            "--leave_out=REGULAR_EXPRESSION, or choose another format.\n" + "\n".join(lines)
        )
    return Encoded(data, kind, len(tensors), left_out)


def _to_torch(arrays: Arrays) -> tuple[dict[str, np.ndarray], list[str]]:
    """(tensors by PyTorch's names, our paths that have no place there)."""
    efficient = any(path.startswith("blocks/") for path in arrays)
    table = efficientnet_names.PACKAGES if efficient else torch_names.TABLE
    tensors, homeless = {}, []
    for path, array in arrays.items():
        if named := table.to_theirs(path, array):
            tensors[named[0]] = np.ascontiguousarray(named[1])
        else:
            homeless.append(path)
    kernel = tensors.get("hashlayer_train.conv2.weight")
    if kernel is not None:
        # The authors' code has a layer that it never uses, and refuses a file without it.
        bits, channels = kernel.shape[:2]
        tensors["FcLayer.weight"] = np.zeros((bits, channels), kernel.dtype)
        tensors["FcLayer.bias"] = np.zeros(bits, kernel.dtype)
    return tensors, homeless


def _reorder(
    arrays: Arrays, heads: Mapping[str, int], order: Callable[[np.ndarray, int], np.ndarray]
) -> dict[str, np.ndarray]:
    """The arrays with the rows of every projection in another order of heads."""
    ending = "/proj/kernel"
    return {
        path: order(array, heads[path.removesuffix(ending)]) if path.endswith(ending) else array
        for path, array in arrays.items()
    }


def _all_heads(source: Source, arrays: Arrays, num_heads: Sequence[int]) -> dict[str, int]:
    """Heads of every attention: as the source tells, else as given, else the variant's."""
    sizes = sizes_of(shapes_of(arrays))
    widths = sizes.embed_dims if sizes else ()
    named = next((v["num_heads"] for v in NEST.values() if v["embed_dims"] == widths), ())
    # The heads of block tokens are always told where they are needed.
    heads = heads_by_module(arrays, tuple(num_heads) or named, 0) | source.heads
    for module in attention_modules(arrays):
        width = arrays[f"{module}/qkv/kernel"].shape[0]
        if heads.get(module, 0) < 1 or width % heads[module]:
            raise ValueError(
                f"the heads of {module} ({width} channels) are not known: {source.path} looks "
                f"like {looks_like(shapes_of(arrays))}. Give them with --num_heads, such as "
                "4,8,16: one number a level, each a divisor of its width."
            )
    return heads


def _heads_as_text(heads: Mapping[str, int]) -> dict[str, str]:
    """Metadata for the file: PyTorch's names do not tell the heads."""
    levels = {m[1]: n for path, n in heads.items() if (m := re.match(r"levels/(\d+)/lay", path))}
    tokens = [n for path, n in heads.items() if "token_attention" in path]
    text = {"num_heads": ",".join(str(levels[i]) for i in sorted(levels))} if levels else {}
    return text | ({"token_heads": str(tokens[0])} if tokens else {})
