"""What a workdir holds, and whether it holds the run that is asked for."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import default
from hybridhash_jax.config_rules import Config, ConfigError, check_workdir
from hybridhash_jax.pretrained import Loaded
from hybridhash_jax.pretrained.account import ACTIONS
from hybridhash_jax.workdir.checkpoints import CheckpointError, CheckpointStore
from input_pipeline.atomic_file import write_atomically

CONFIG_FILE, RESULTS_FILE, CHECKPOINTS, CODES = (
    "config.json",
    "results.json",
    "checkpoints",
    "codes",
)
INIT_FILE = "init.json"  # what init.from gave, written at the first start
EVALUATION = "evaluation"  # what --mode=evaluate writes, beside what training wrote


def load_config(workdir: Path) -> Config:
    """The configuration that a workdir was trained with; fields that came later at their defaults.

    Raises:
      ConfigError: there is none that can be read.
    """
    path = workdir / CONFIG_FILE
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}). --mode=evaluate needs a workdir that --mode=train "
            "wrote (for a sweep over lengths, one of its subfolders such as 32bits)."
        ) from None
    return ConfigDict(_with_tuples(_merged(default.get_config().to_dict(), values))).lock()


def folder_of_length(config: Config, bits: int, workdir: Path) -> Path:
    """Where one code length lives: one in `workdir` itself, several in `workdir/16bits` and so on."""
    return workdir if len(config.bits) == 1 else workdir / f"{bits}bits"


def config_of_length(config: Config, bits: int) -> Config:
    """The configuration as if `bits` were its only code length."""
    own = ConfigDict(config.to_dict())
    own.bits = (bits,)
    return own


def only_length(config: Config, workdir: Path) -> int:
    """The code length of a workdir of one.

    Raises:
      ConfigError: the configuration has several; names their workdirs.
    """
    if len(config.bits) > 1:
        names = ", ".join(f"{workdir}/{bits}bits" for bits in config.bits)
        raise ConfigError(f"evaluate one code length at a time: --workdir one of {names}")
    return config.bits[0]


def check_layout(config: Config, workdir: Path) -> None:
    """Refuses one length and several in a workdir: their results.json would be the same file.

    Raises:
      ConfigError: the other kind is there.
    """
    sweep = sorted(path.parent.name for path in workdir.glob(f"*bits/{CONFIG_FILE}"))
    single = (workdir / CONFIG_FILE).exists()
    if (len(config.bits) > 1 and single) or (len(config.bits) == 1 and sweep):
        there = "a run of one code length" if single else f"runs of {', '.join(sweep)}"
        raise ConfigError(
            f"{workdir} holds {there}; choose another --workdir for bits={config.bits}"
        )


def check_occupied(config: Config, workdir: Path) -> None:
    """Lets an empty workdir pass, or one that holds this very run.

    Raises:
      ConfigError: it holds another run, or parts of one.
    """
    path = workdir / CONFIG_FILE
    if path.exists():
        check_workdir(config, path)
    elif any((workdir / name).exists() for name in (CHECKPOINTS, "metrics.jsonl")):
        raise ConfigError(
            f"{workdir} holds parts of a run but no {CONFIG_FILE} that says which; choose another "
            "workdir"
        )


def save_init(workdir: Path, loaded: Loaded | None) -> None:
    """Writes what the parameters start from, for later starts, which do not read the file again."""
    path = workdir / INIT_FILE
    if loaded is None:
        path.unlink(missing_ok=True)
        return
    names = {action: loaded.names(action) for action in ACTIONS}
    content = {"init_from": loaded.summary, "notes": loaded.notes, **names}
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def load_init_note(workdir: Path) -> str | None:
    """The summary that `save_init` wrote; None if there is none that can be read."""
    try:
        note = json.loads((workdir / INIT_FILE).read_text())["init_from"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return note if isinstance(note, str) else None


def choose_step(
    store: CheckpointStore,
    best_step: Callable[[Sequence[Mapping[str, Any]]], int | None],
    like: Any,
    which: str,
) -> int:
    """The step of the checkpoint that `which` names: "selected", "latest" or a step.

    Args:
      store: the checkpoints of one run.
      best_step: from the records of all evaluations to the step of the selected one; the newest
        checkpoint is taken where that one is gone.
      like: a state of the run, see `CheckpointStore.restore`.

    Raises:
      CheckpointError: there is no checkpoint, or the newest cannot be read.
      ConfigError: `which` names none.
    """
    steps = store.steps()
    if not steps:
        raise CheckpointError(f"there is no checkpoint in {store.directory}; train first")
    if which.isdigit():
        return int(which)
    if which == "latest":
        return steps[-1]
    if which != "selected":
        raise ConfigError(f"--checkpoint={which}; accepted: selected, latest, or one of {steps}")
    _, meta = store.restore(steps[-1], like)
    best = best_step(meta["history"])
    return best if best in steps else steps[-1]


def _merged(defaults: Any, saved: Any) -> Any:
    if not (isinstance(defaults, dict) and isinstance(saved, dict)):
        return saved
    return defaults | {name: _merged(defaults.get(name), value) for name, value in saved.items()}


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_tuples(entry) for name, entry in value.items()}
    return tuple(value) if isinstance(value, list) else value
