"""Tells apart what pre-trained weights can come from, by content, and reads them into one form."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybridhash_jax.pretrained import workdirs
from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.pretrained.files import google_files, torch_files
from hybridhash_jax.pretrained.files.locations import locate
from hybridhash_jax.pretrained.names import google_names, torch_names
from hybridhash_jax.pretrained.network import heads_by_module

# What training programs and wrappers put before every name.
_PREFIXES = ("module.", "_orig_mod.", "model.")
# What the weights were trained with, where the kind of file tells.
_OPTIONS = {
    "timm NesT": {"pool_padding": "same", "gelu": "exact"},
    "Google NesT": {"pool_padding": "same", "gelu": "tanh"},
    "HybridHash": {"pool_padding": "symmetric", "gelu": "exact", "token_layout": "reference"},
}
OPTIONS = ("pool_padding", "gelu", "token_layout")


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights as they were found.

    Attributes:
      path: where. kind: what they are, in words.
      arrays: by our parameter paths, in our axes; rows of projections in the file's head order.
      names: what the file calls them.
      unknown: shapes of entries that are nothing we know, by name.
      unused: why entries are no parameters of any network, by name.
      heads: of attention modules, by path, where the file tells.
      heads_fastest: the rows of projections are in PyTorch NesT's order.
      options: what they were trained with, as far as known.
      notes: what else to know, in words.
    """

    path: str
    kind: str
    arrays: dict[str, np.ndarray]
    names: dict[str, str]
    unknown: dict[str, tuple[int, ...]]
    unused: dict[str, str]
    heads: dict[str, int]
    heads_fastest: bool
    options: dict[str, str]
    notes: list[str]


def read_source(path: str | os.PathLike[str], checkpoint: str = "latest") -> Source:
    """Reads weights of any of the four kinds: timm's NesT, Google's, HybridHash's, or a run of ours.

    Args:
      path: a .safetensors, .pth or .flax file, a folder of Google's, a workdir, or one of a
        workdir's checkpoints; Google's also in a bucket (gs://...).
      checkpoint: which one of a workdir: "latest", "selected" or a step.

    Raises:
      WeightFileError: nothing there, damaged, or none of these.
    """
    place = locate(path)
    try:
        if place.is_dir():
            return _read_folder(place, checkpoint)
        with place.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightFileError(f"cannot read {path}: {error}") from error
    if google_files.looks_like_flax(head):
        return _read_google(place, [])
    return from_torch(os.fspath(place), torch_files.read_tensors(place))


def _read_folder(place: Any, checkpoint: str) -> Source:
    if workdirs.is_run(place):
        return _from_run(place, workdirs.read_run(place, checkpoint))
    if found := google_files.find_in_folder(place):
        return _read_google(*found)
    inside = sorted(child.name for child in place.iterdir())
    sweep = [name for name in inside if (place / name / "checkpoints").is_dir()]
    hint = f" Its runs are in {', '.join(f'{place}/{name}' for name in sweep)}." if sweep else ""
    raise WeightFileError(
        f"the folder {place} is neither a workdir (config.json and checkpoints) nor one of "
        f"Google's (a .flax file); it holds {', '.join(inside[:5]) or 'nothing'}.{hint}"
    )


def _read_google(place: Any, notes: list[str]) -> Source:
    try:
        return from_google(os.fspath(place), *google_files.read(place), notes)
    except WeightFileError as error:
        raise WeightFileError(f"{place}: {error}") from error


def from_google(
    path: str, parameters: Mapping[str, np.ndarray], others: list[str], notes: list[str]
) -> Source:
    """What `google_files.read` gives, in our form."""
    found = google_names.to_ours(parameters)
    return Source(
        path=path,
        kind="Google NesT",
        arrays=found.arrays,
        names=found.names,
        unknown={name: parameters[name].shape for name in found.unknown},
        unused=dict.fromkeys(others, "training state"),
        heads=found.heads,
        heads_fastest=False,
        options=dict(_OPTIONS["Google NesT"]),
        notes=notes,
    )


def _from_run(place: Any, run: workdirs.RunParameters) -> Source:
    sizes = run.config.get("num_heads", ()), run.config.get("token_heads", 0)
    return Source(
        path=os.fspath(place),
        kind="own run",
        arrays=run.arrays,
        names={path: path for path in run.arrays},
        unknown={},
        unused=dict.fromkeys(run.others, "training state"),
        heads=heads_by_module(run.arrays, *sizes),
        heads_fastest=False,
        options={name: run.config[name] for name in OPTIONS if name in run.config},
        notes=[f"checkpoint of step {run.step}"],
    )


def from_torch(path: str, file: torch_files.TensorFile) -> Source:
    """What `torch_files.read_tensors` gives, in our form; refuses what is no NesT at all."""
    prefix, tensors = _without_prefix(file.tensors)
    arrays, names, unknown, unused = {}, {}, {}, {}
    for name, array in tensors.items():
        if torch_names.UNUSED.fullmatch(name):
            unused[name] = "a layer that the authors' code never uses"
        elif converted := torch_names.to_ours(name, array):
            arrays[converted[0]], names[converted[0]] = converted[1], name
        else:
            unknown[name] = array.shape
    if not arrays:
        raise WeightFileError(
            f"{path} holds no NesT or HybridHash: its {len(tensors)} entries are called "
            f"{', '.join(list(tensors)[:5]) or 'nothing'}, where patch_embed.proj.weight and "
            "levels.0.pos_embed are expected."
        )
    kind = "HybridHash" if any(map(torch_names.is_of_hybridhash, tensors)) else "timm NesT"
    num_heads = _numbers(file.metadata.get("num_heads", ""))
    token_heads = sum(_numbers(file.metadata.get("token_heads", "")))
    options = {name: file.metadata[name] for name in OPTIONS if name in file.metadata}
    return Source(
        path=path,
        kind=kind,
        arrays=arrays,
        names=names,
        unknown=unknown,
        unused=unused,
        heads=heads_by_module(arrays, num_heads, token_heads),
        heads_fastest=True,
        options=_OPTIONS[kind] | options,
        notes=file.notes + ([f"prefix {prefix!r} taken off every name"] if prefix else []),
    )


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]


def _without_prefix(tensors: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """(what stood before every name, the tensors without it)."""
    taken = ""
    while tensors:
        common = next((p for p in _PREFIXES if all(n.startswith(p) for n in tensors)), None)
        if common is None:
            break
        taken += common
        tensors = {name.removeprefix(common): array for name, array in tensors.items()}
    return taken, dict(tensors)
