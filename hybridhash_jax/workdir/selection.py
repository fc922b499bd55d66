"""Which checkpoint counts: the one answer for results, reports, evaluation and weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs import default
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.checkpoints import (
    CheckpointError,
    committed_steps,
    explained,
    read_meta,
)
from hybridhash_jax.workdir.config import read_config
from input_pipeline.options import Option

# Which number of an evaluation's record is the largest at the selected step.
_MEASURES = {
    "hash": {"query": "map_expected", "last": "step", "validation": "validation_map_expected"},
    "classify": {"validation": "top1", "last": "step"},
}
OPTION = Option("selected_by", "which evaluation counts", tuple(_MEASURES["hash"]))


def selected_step(
    history: Sequence[Mapping[str, Any]], selected_by: str, task: str = "hash"
) -> int | None:
    """The step of the evaluation that evaluation.selected_by selects, the first among equals.

    The untrained network is a baseline: it counts only where nothing else was evaluated. None of no
    records.
    """
    return best_record(history, _MEASURES[task][selected_by])["step"] if history else None


def best_record(history: Sequence[Mapping[str, Any]], measure: str) -> Mapping[str, Any]:
    """The record with the largest `measure`, the untrained network's only if it is the only one."""
    trained = [record for record in history if record["step"]] or history
    return max(trained, key=lambda record: record[measure])


def choose_step(workdir: Path, which: str) -> int:
    """The step of a run's checkpoint: "selected" (as in its results), "latest", or a step.

    Raises:
      CheckpointError: there is no checkpoint, or not this one, or it cannot be read.
      ValueError: `which` is none of these, or the run's configuration cannot be read.
    """
    folder = workdir / names.CHECKPOINTS
    steps = committed_steps(folder)
    if not steps:
        raise CheckpointError(
            f"there is no checkpoint in {folder}; train first. Weights are evaluated as they are, "
            "without a run, with --config=CONFIG --config.init.weights=WEIGHTS and a new --workdir"
        )
    if which == "latest":
        return steps[-1]
    if which == "selected":
        newest = folder / str(steps[-1])
        try:
            history = read_meta(newest).get("history", [])
        except Exception as error:
            raise CheckpointError(
                f"{explained(newest, error)} There are: {steps}; name one with --checkpoint=STEP"
            ) from error
        config = read_config(workdir)  # whatever else a run of an earlier version had
        own = {**default.get_config().evaluation, **config.get("evaluation", {})}
        step = selected_step(history, own["selected_by"], config.get("task", "hash"))
        step = steps[-1] if step is None else step  # stopped before its first evaluation
    elif which.isdigit():
        step = int(which)
    else:
        raise ValueError(f"checkpoint={which}; accepted: selected, latest, or one of {steps}")
    if step not in steps:
        raise CheckpointError(
            f"there is no checkpoint {folder / str(step)}; there are: {steps}, or give latest"
        )
    return step
