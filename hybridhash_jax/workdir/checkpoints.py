"""Checkpoints of a run, kept with Orbax and verified when they are read.

Every checkpoint holds the state as a flat mapping from path to array, and beside it a fingerprint
of every array, so that a damaged file is noticed even where its format has no checksum.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from hybridhash_jax.parameters import flatten
from hybridhash_jax.runtime.console import logger
from hybridhash_jax.runtime.failures import is_damage, is_full_disk, reason
from hybridhash_jax.workdir import names
from hybridhash_jax.workdir.fingerprints import fingerprint
from input_pipeline.atomic_file import write_json
from input_pipeline.messages import shortened
from input_pipeline.options import Option

State = TypeVar("State")
OPTIONS = (
    Option("every_epochs", "epochs between two checkpoints", above=0, may_change=True),
    Option("keep_latest", "newest checkpoints to keep", at_least=1, may_change=True),
)


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint was read, and what it holds is not what was written."""


class _KeepLatestAndBest(checkpoint_managers.PreservationPolicy):
    """Keeps the newest n and the best; Orbax's `best_fn` would delete the newest."""

    def __init__(self, keep_latest: int):
        self.keep_latest = keep_latest
        self.best_step: int | None = None

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        newest = {info.step for info in checkpoints[-self.keep_latest :]}
        return [info.step in newest or info.step == self.best_step for info in checkpoints]


class CheckpointStore:
    """The checkpoints of one run, one folder a step."""

    def __init__(self, directory: Path, keep_latest: int = 2, *, read_only: bool = False):
        """Opens `directory`, making it unless `read_only`.

        With keep_latest >= 2 there is always one to fall back on should the newest be damaged.
        """
        OPTIONS[1].check(keep_latest)
        self.directory = directory.absolute()
        self._policy = _KeepLatestAndBest(keep_latest)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=self._policy,
            enable_async_checkpointing=not read_only,
            cleanup_tmp_directories=not read_only,  # left by a process that was killed
            create=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        return sorted(self._manager.all_steps())

    def keep_best(self, step: int | None) -> None:
        """Names the checkpoint that is kept however old it gets."""
        self._policy.best_step = step

    def save(self, step: int, state: Any, meta: Mapping[str, Any]) -> None:
        """Saves in the background a step that has no checkpoint.

        A CheckpointError if this or the save before could not be written; older ones are intact.
        """
        flat = flatten(state)
        meta = dict(meta) | {"fingerprint": fingerprint(flat)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(flat), meta=ocp.args.JsonSave(meta))
        try:
            self._manager.save(step, args=args, force=True)
        except Exception as error:
            raise self._write_error(error) from error

    def replace_meta(self, step: int, meta: Mapping[str, Any]) -> None:
        """Replaces what a checkpoint holds beside its arrays, in one move; CheckpointError as `save`."""
        self.wait()
        where = self.directory / str(step)
        try:
            if jax.process_index() == 0:
                kept = {"fingerprint": read_meta(where)["fingerprint"]}
                write_json(where / "meta" / "metadata", dict(meta) | kept)
        except Exception as error:
            raise self._write_error(error) from error

    def wait(self) -> None:
        """Returns when every save is on disk; raises CheckpointError if one failed."""
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise self._write_error(error) from error

    def _write_error(self, error: Exception) -> CheckpointError:
        intact = ", ".join(str(step) for step in committed_steps(self.directory)) or "none yet"
        what = "Is the disk full? Make room" if is_full_disk(error) else "Mend that"
        return CheckpointError(
            f"could not write a checkpoint to {self.directory}: {reason(error)}. {what}, and start "
            "the same command again to go on. Checkpoints that are intact: step "
            f"{intact}."
        )

    def restore_latest(self, like: State) -> tuple[State, dict[str, Any]] | None:
        """The newest checkpoint that is intact, or None where there is none at all.

        A damaged one is reported, moved to `damaged_checkpoints` beside the directory, and the one
        before is used.

        Raises:
          CheckpointError: all of them are damaged; or one could not be read for another reason, and
            stays where it is.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.restore(step, like)
            except DamagedCheckpointError as error:
                moved = self._set_aside(step)
                logger.warning("%s; moved to %s", error, moved)
        if steps:
            raise CheckpointError(
                f"every checkpoint in {self.directory} was damaged (steps {steps}); they are in "
                f"{self.directory.parent / names.DAMAGED}. Start again with a new workdir."
            )
        return None

    def restore(
        self, step: int, like: State, *, whole: bool = True
    ) -> tuple[State, dict[str, Any]]:
        """One checkpoint, in the structure, shapes and shardings of `like`, and its meta data.

        Without `whole` the checkpoint may hold more than `like`, which is not read.

        Raises:
          DamagedCheckpointError: what was read is not what was written.
          CheckpointError: it is missing, cannot be read now, or is of another network or data set.
        """
        where = self.directory / str(step)
        flat, problem = flatten(like), None
        meta, stored, restored = {}, {}, {}
        try:
            if not where.is_dir():
                raise CheckpointError(f"there is no checkpoint {where}; there are: {self.steps()}")
            meta = read_meta(where)
            stored = {path: _stored_name(path, meta["fingerprint"]) for path in flat}
            shapes = {stored[path]: tuple(x.shape) for path, x in flat.items()}
            _check_shapes(where, shapes, whole=whole)
            abstract = {
                stored[path]: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding)
                for path, x in flat.items()
            }
            restored = _restore_arrays(where, abstract)
        except CheckpointError as error:
            problem = error
        except Exception as error:
            problem = explained(where, error)
            problem.__cause__ = error
        _raise_in_all(where, problem)
        expected, found = meta.pop("fingerprint"), fingerprint(restored)
        if found != {name: expected.get(name) for name in (expected if whole else found)}:
            raise DamagedCheckpointError(f"checkpoint {where} is damaged: its arrays have changed")
        leaves = [restored[name] for name in stored.values()]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), meta

    def _set_aside(self, step: int) -> Path:
        target = self.directory.parent / names.DAMAGED / str(step)
        if jax.process_index() == 0:
            target.parent.mkdir(exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(self.directory / str(step), target)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("set aside a damaged checkpoint")
        self._manager.reload()
        return target

    def close(self) -> None:
        """Ends the background threads."""
        self._manager.close()


def read_meta(where: Path) -> dict[str, Any]:
    """What is kept beside the arrays of one checkpoint: the history, and their fingerprint."""
    # Orbax's own reader waits for all processes, of which only one may be reading.
    return json.loads((where / "meta" / "metadata").read_text())


def _raise_in_all(where: Path, problem: CheckpointError | None) -> None:
    """Raises in every process if one has a problem, since each reads parts of its own."""
    own = 0 if problem is None else 1 if isinstance(problem, DamagedCheckpointError) else 2
    kinds = np.array([own])
    if jax.process_count() > 1:
        kinds = multihost_utils.process_allgather(kinds).reshape(-1)
    worst = kinds.max()
    if problem is not None and own == worst:
        raise problem
    if worst:
        kind, what = CheckpointError, "cannot be read"
        if worst == 1:
            kind, what = DamagedCheckpointError, "is damaged"
        which = ", ".join(map(str, np.flatnonzero(kinds == worst)))
        raise kind(f"checkpoint {where} {what}: see the output of process {which}") from problem


def _check_shapes(where: Path, wanted: Mapping[str, tuple[int, ...]], *, whole: bool) -> None:
    """Raises where another network, method or data set made the checkpoint."""
    there = stored_shapes(where) or wanted  # restoring says what is damaged
    words = [
        f"{name}: {there.get(name, 'nothing')} there, {wanted.get(name, 'nothing')} here"
        for name in sorted(there.keys() | wanted.keys() if whole else wanted.keys())
        if there.get(name) != wanted.get(name)
    ]
    if words:
        raise CheckpointError(
            f"checkpoint {where} is of another network or other data, in {len(words)} arrays: "
            f"{shortened(words, 3)}. Give the configuration and the data of that run."
        )


def _restore_arrays(where: Path, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Any]:
    args = ocp.args.PyTreeRestore(
        item=dict(wanted),
        restore_args=ocp.checkpoint_utils.construct_restore_args(dict(wanted)),
        partial_restore=True,
    )
    # Without a Checkpointer, which waits for all processes: one that fails would leave the others.
    handler = ocp.PyTreeCheckpointHandler()
    try:
        return handler.restore(epath.Path(where / "state"), args=args)
    finally:
        handler.close()


def stored_shapes(where: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the arrays of one checkpoint, by name; empty where it is damaged."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        found = checkpointer.metadata(where.absolute() / "state").item_metadata
    return {path: tuple(entry.shape) for path, entry in found.tree.items()} if found else {}


def explained(where: Path, error: Exception) -> CheckpointError:
    """An error of reading a checkpoint, as what it is."""
    if is_damage(error):
        return DamagedCheckpointError(
            f"checkpoint {where} is damaged: a file of it is missing, cut short or changed"
        )
    return CheckpointError(
        f"checkpoint {where} cannot be read now ({reason(error)}); it stays as it is. Mend that, "
        "and start the same command again."
    )


def _stored_name(path: str, stored: Mapping[str, Any]) -> str:
    """The name in a checkpoint; earlier versions knew a memory bank as the only method's state."""
    earlier = f"bank/{path.removeprefix('method/')}"
    return earlier if path not in stored and earlier in stored else path


def committed_steps(directory: Path) -> list[int]:
    """Steps whose checkpoint is complete, by the names in `directory`; none if it is not there."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())
