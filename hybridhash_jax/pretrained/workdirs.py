"""Reads the parameters of our own runs: Orbax checkpoints, whatever optimizer and bank they had."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from hybridhash_jax.config_fields import ConfigError
from hybridhash_jax.models import VARIANTS
from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.checkpoints import (
    CheckpointError,
    committed_steps,
    explained,
    read_meta,
)
from hybridhash_jax.workdir.config import read_config
from hybridhash_jax.workdir.fingerprints import fingerprint_on_host
from hybridhash_jax.workdir.selection import choose_step

# The moving average, where a run keeps one, is what it evaluates and what starts others.
_AVERAGE, _PARAMETERS = "ema/", "params/"


class RunParameters(NamedTuple):
    """The parameters of one checkpoint, by path.

    Attributes:
      others: names of the training state's arrays, which were not read.
      config: the run's config.model with the variant's sizes filled in.
      step: of the checkpoint. chosen: how, where a workdir was given.
    """

    arrays: dict[str, np.ndarray]
    others: list[str]  # names of the training state's arrays, which were not read
    config: dict[str, Any]  # the run's config.model with the variant's sizes filled in
    step: int
    chosen: str


def is_run(folder: Path) -> bool:
    """Is it a workdir with checkpoints, or one checkpoint of it?"""
    return (folder / names.CHECKPOINTS).is_dir() or _is_checkpoint(folder)


def read_run(folder: Path, checkpoint: str = "selected") -> RunParameters:
    """Reads one checkpoint's parameters and checks them against their fingerprints.

    `folder` is a workdir of one code length, of which `checkpoint` names one ("latest", "selected" or
    a step), or WORKDIR/checkpoints/STEP.

    Raises:
      WeightFileError: there is none, it is damaged, or it holds no parameters.
    """
    folder = folder.absolute()
    if _is_checkpoint(folder):
        workdir, step, chosen = folder.parent.parent, int(folder.name), ""
    else:
        try:
            step = choose_step(folder, checkpoint)
        except (CheckpointError, ValueError) as error:
            raise WeightFileError(str(error)) from error
        workdir, chosen = folder, f" ({checkpoint})"
    where = workdir / names.CHECKPOINTS / str(step)
    try:
        arrays, others = _restore(where)
        expected = read_meta(where)["fingerprint"]
        found = fingerprint_on_host(arrays)
    except Exception as error:
        others = [x for x in committed_steps(workdir / names.CHECKPOINTS) if x != step]
        other = (
            f". Other steps: {others}; give one as WORKDIR/checkpoints/STEP where weights are asked "
            "for, else by --checkpoint=STEP"
        )
        told = str(explained(where, error)).removesuffix(".")
        raise WeightFileError(f"{told}{other if others else ''}.") from error
    if any(expected.get(path) != value for path, value in found.items()):
        raise WeightFileError(f"checkpoint {where} is damaged: its arrays have changed")
    named = {path.partition("/")[2].removesuffix("/value"): array for path, array in arrays.items()}
    try:
        config = read_config(workdir)
    except ConfigError as error:
        raise WeightFileError(f"{error}; it says what the run's network is. Restore it.") from None
    model = {k: v for k, v in config.get("model", {}).items() if v is not None}
    sizes = VARIANTS.get(model.get("variant", ""), {}) | model
    return RunParameters(named, others, sizes, step, chosen)


def _is_checkpoint(folder: Path) -> bool:
    return folder.name.isdigit() and (folder / "state").is_dir() and (folder / "meta").is_dir()


def _restore(where: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """(parameters or their average, by their paths in the state; paths of other arrays)."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        found = checkpointer.metadata(where / "state").item_metadata
        if found is None:
            raise FileNotFoundError(where / "state")  # what its arrays are cannot be read
        stored = found.tree
        averaged = any(path.startswith(_AVERAGE) for path in stored)
        prefix = _AVERAGE if averaged else _PARAMETERS
        wanted = {
            path: jax.ShapeDtypeStruct(entry.shape, entry.dtype)
            for path, entry in stored.items()
            if path.startswith(prefix)
        }
        if not wanted:
            raise ValueError("it holds no parameters")
        as_numpy = {path: ocp.RestoreArgs(restore_type=np.ndarray) for path in wanted}
        args = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        arrays = checkpointer.restore(where / "state", args=args)
    others = [path for path in stored if path not in wanted]
    return {path: np.asarray(array) for path, array in arrays.items()}, others
