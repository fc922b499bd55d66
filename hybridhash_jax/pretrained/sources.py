"""Tells apart what pre-trained weights can come from, by content, and reads them into one form."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from hybridhash_jax.pretrained import workdirs
from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.pretrained.files import google_files, packages, torch_files
from hybridhash_jax.pretrained.files.locations import locate
from hybridhash_jax.pretrained.names import efficientnet_names, google_names, torch_names
from hybridhash_jax.pretrained.names.table import Table
from hybridhash_jax.pretrained.network import heads_by_module

# What training programs and wrappers put before every name.
_PREFIX = re.compile(r"module\.|_orig_mod\.|model\.")
# What the weights were trained with, where the kind of file tells.
_OPTIONS = {
    "timm NesT": {"pool_padding": "same", "gelu": "exact"},
    "Google NesT": {"pool_padding": "same", "gelu": "tanh"},
    "HybridHash": {"pool_padding": "symmetric", "gelu": "exact", "token_layout": "reference"},
}
_TRAINING_STATE = "training state"


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights as they were found.

    Attributes:
      arrays: by our parameter paths, in our axes; rows of projections in the file's head order.
      names: what the file calls them, by our paths.
      unknown: shapes of entries that are nothing we know, by the file's name.
      unused: why entries are no parameters of any network, by the file's name.
      heads: of attention modules, by our path, where the file tells.
      heads_fastest: the rows of projections are in PyTorch NesT's order.
      options: what they were trained with, as far as known.
    """

    path: str
    kind: str
    arrays: dict[str, np.ndarray]
    names: dict[str, str]
    unknown: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    unused: dict[str, str] = dataclasses.field(default_factory=dict)
    heads: dict[str, int] = dataclasses.field(default_factory=dict)
    heads_fastest: bool = False
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)


def read_source(path: str | os.PathLike[str], checkpoint: str = "selected") -> Source:
    """Reads weights of any kind: NesT (timm's, Google's), HybridHash, EfficientNet-Lite, our runs.

    `path` is a .safetensors, .pth or .flax file, a folder of Google's, a workdir, one of its
    checkpoints, or the name of weights that a package brings (see `packages`); Google's also in a
    bucket (gs://...). `checkpoint` is which one of a workdir:
    "latest", "selected" or a step. Nothing there, damaged, or none of these: WeightFileError.
    """
    found = packages.find(path)
    place = locate(found)
    try:
        if place.is_dir():
            return _read_folder(place, checkpoint)
        with place.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise WeightFileError(f"cannot read {path}: {error}") from error
    if google_files.looks_like_flax(head):
        return _read_google(place, [])
    # A package's file is called by the name that was given.
    name = os.fspath(place if found is path else path)
    return from_torch(name, torch_files.read_tensors(place))


def _read_folder(place: Any, checkpoint: str) -> Source:
    if workdirs.is_run(place):
        return _from_run(place, workdirs.read_run(place, checkpoint))
    if found := google_files.find_in_folder(place):
        return _read_google(*found)
    inside = sorted(child.name for child in place.iterdir())
    runs = [f"{place}/{name}" for name in inside if workdirs.is_run(place / name)]
    hint = f" Its runs are in {', '.join(runs)}." if runs else ""
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
        path,
        "Google NesT",
        found.arrays,
        found.names,
        unknown={name: parameters[name].shape for name in found.unknown},
        unused=dict.fromkeys(others, _TRAINING_STATE),
        heads=found.heads,
        options=_OPTIONS["Google NesT"],
        notes=notes,
    )


def _from_run(place: Any, run: workdirs.RunParameters) -> Source:
    sizes = run.config.get("num_heads", ()), run.config.get("token_heads", 0)
    return Source(
        os.fspath(place),
        "own run",
        run.arrays,
        {path: path for path in run.arrays},
        unused=dict.fromkeys(run.others, _TRAINING_STATE),
        heads=heads_by_module(run.arrays, *sizes),
        options=_told(run.config),
        notes=[f"checkpoint of step {run.step}{run.chosen}"],
    )


def from_torch(path: str, file: torch_files.TensorFile) -> Source:
    """What `torch_files.read_tensors` gives, in our form; refuses what is no NesT at all."""
    prefix, tensors = _without_prefix(file.tensors)
    notes = file.notes + ([f"prefix {prefix!r} taken off every name"] if prefix else [])
    if table := efficientnet_names.table_of(tensors):
        why, renamed = "a count of batches", efficientnet_names.renamed(tensors)
        found = _by_table(tensors, table, efficientnet_names.UNUSED, why, renamed)
        return Source(path, "EfficientNet-Lite", *found, notes=notes)
    why = "a layer that the authors' code never uses"
    found = _by_table(tensors, torch_names.TABLE, torch_names.UNUSED, why)
    arrays = found[0]
    if not arrays:
        raise WeightFileError(
            f"{path} holds no NesT, HybridHash or EfficientNet-Lite: its {len(tensors)} entries are "
            f"called {', '.join(list(tensors)[:5]) or 'nothing'}, where patch_embed.proj.weight and "
            "levels.0.pos_embed, or conv_stem.weight, are expected."
        )
    kind = "HybridHash" if any(map(torch_names.is_of_hybridhash, tensors)) else "timm NesT"
    num_heads, token_heads = (
        [int(number) for number in re.findall(r"\d+", file.metadata.get(name, ""))]
        for name in ("num_heads", "token_heads")
    )
    return Source(
        path,
        kind,
        *found,
        heads=heads_by_module(arrays, num_heads, sum(token_heads)),
        heads_fastest=True,
        options=_OPTIONS[kind] | _told(file.metadata),
        notes=notes,
    )


def _by_table(
    tensors: Mapping[str, np.ndarray],
    table: Table,
    unused: re.Pattern[str],
    why: str,
    renamed: Mapping[str, str] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, str], dict[str, tuple[int, ...]], dict[str, str]]:
    """`arrays`, `names`, `unknown` and `unused` of a `Source`; `why` is said of the unused.

    `renamed` are the table's names of the tensors, where the file has others.
    """
    arrays, names, unknown, without_use = {}, {}, {}, {}
    for name, array in tensors.items():
        if unused.fullmatch(name):
            without_use[name] = why
        elif converted := table.to_ours(renamed[name] if renamed else name, array):
            arrays[converted[0]], names[converted[0]] = converted[1], name
        else:
            unknown[name] = array.shape
    return arrays, names, unknown, without_use


def _told(options: Mapping[str, str]) -> dict[str, str]:
    """Those of the options that change a network's function but no shape."""
    return {name: options[name] for name in _OPTIONS["HybridHash"] if name in options}


def _without_prefix(tensors: Mapping[str, np.ndarray]) -> tuple[str, dict[str, np.ndarray]]:
    """(what stood before every name, the tensors without it)."""
    taken, tensors = "", dict(tensors)
    while match := _PREFIX.match(next(iter(tensors), "")):
        common = match[0]
        if not all(name.startswith(common) for name in tensors):
            break
        taken += common
        tensors = {name.removeprefix(common): array for name, array in tensors.items()}
    return taken, tensors
