"""Reads the parameters of our own runs: Orbax checkpoints, whatever optimizer and bank they had."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from hybridhash_jax.models import VARIANTS
from hybridhash_jax.pretrained.errors import WeightFileError
from hybridhash_jax.workdir.checkpoints import committed_steps, fingerprint

# The moving average, where a run keeps one, is what it evaluates and what starts others.
_AVERAGE, _PARAMETERS = "ema/", "params/"

# --- File names of a workdir, and which of its checkpoints counts. ---
_CONFIG, _FOLDER = "config.json", "checkpoints"
_SELECTED_BY = {
    "hash": {"query": "map_expected", "validation": "validation_map_expected", "last": "step"},
    "classify": {"validation": "top1", "last": "step"},
}


def is_run(folder: Path) -> bool:
    """Is it a workdir with checkpoints, or one checkpoint of it?"""
    return (folder / _FOLDER).is_dir() or _is_checkpoint(folder)


def _is_checkpoint(folder: Path) -> bool:
    return folder.name.isdigit() and (folder / "state").is_dir() and (folder / "meta").is_dir()


def selected_step(
    history: Sequence[Mapping[str, Any]], selected_by: str, task: str = "hash"
) -> int | None:
    """The step of the evaluation that evaluation.selected_by selects, the first among equals."""
    measure = _SELECTED_BY[task][selected_by]
    return max(history, key=lambda record: record[measure])["step"] if history else None


def _choose(folder: Path, checkpoint: str) -> tuple[Path, int]:
    """(workdir, step) of a folder that `is_run`."""
    if _is_checkpoint(folder):
        return folder.parent.parent, int(folder.name)
    steps = committed_steps(folder / _FOLDER)
    if not steps:
        raise WeightFileError(f"there is no checkpoint in {folder / _FOLDER}; train that run first")
    if checkpoint == "latest":
        return folder, steps[-1]
    if checkpoint == "selected":
        history = _meta(folder / _FOLDER / str(steps[-1])).get("history", [])
        config = _config(folder)
        selected_by = config["evaluation"]["selected_by"]
        chosen = selected_step(history, selected_by, config.get("task", "hash"))
        if chosen in steps:
            return folder, chosen
        raise WeightFileError(
            f"the checkpoint that {folder} selects (step {chosen}) is not there; there are "
            f"{steps}. Choose one of them, or latest."
        )
    if checkpoint.isdigit() and int(checkpoint) in steps:
        return folder, int(checkpoint)
    raise WeightFileError(f"checkpoint={checkpoint!r}: {folder} has latest, selected and {steps}")


def _config(workdir: Path) -> dict[str, Any]:
    path = workdir / _CONFIG
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise WeightFileError(
            f"{path} cannot be read ({error}); it says what the run's network is. Restore it."
        ) from None


# --- Their content. ---
class RunParameters(NamedTuple):
    """The parameters of one checkpoint, by path.

    Attributes:
      others: names of the training state's arrays, which were not read.
      config: the run's config.model with the variant's sizes filled in.
      step: of the checkpoint.
    """

    arrays: dict[str, np.ndarray]
    others: list[str]
    config: dict[str, Any]
    step: int


def read_run(folder: Path, checkpoint: str = "latest") -> RunParameters:
    """Reads one checkpoint's parameters and checks them against their fingerprints.

    Args:
      folder: a workdir of one code length, or WORKDIR/checkpoints/STEP.
      checkpoint: of a workdir: "latest", "selected" (by the run's evaluation.selected_by), or a
        step.

    Raises:
      WeightFileError: there is none, it is damaged, or it holds no parameters.
    """
    workdir, step = _choose(folder.absolute(), checkpoint)
    where = workdir / _FOLDER / str(step)
    try:
        arrays, others = _restore(where)
        expected = _meta(where)["fingerprint"]
        found = fingerprint({path: jax.numpy.asarray(x) for path, x in arrays.items()})
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise WeightFileError(
            f"checkpoint {where} cannot be read ({type(error).__name__}: {first:.300}). Complete "
            f"ones: {committed_steps(workdir / _FOLDER)}; give one as WORKDIR/checkpoints/STEP."
        ) from error
    if any(expected.get(path) != value for path, value in found.items()):
        raise WeightFileError(f"checkpoint {where} is damaged: its arrays have changed")
    named = {path.partition("/")[2].removesuffix("/value"): array for path, array in arrays.items()}
    model = {k: v for k, v in _config(workdir).get("model", {}).items() if v is not None}
    return RunParameters(named, others, VARIANTS.get(model.get("variant", ""), {}) | model, step)


def _restore(where: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """(parameters or their average, by their names in the state; names of other arrays)."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        stored = checkpointer.metadata(where / "state").item_metadata.tree
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


def _meta(where: Path) -> dict[str, Any]:
    with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
        return dict(checkpointer.restore(where / "meta", args=ocp.args.JsonRestore()))
